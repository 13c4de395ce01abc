"""The store on disk.

    <cache>/format.json              {"format": 1}: a store of a newer trtbuild is refused, never guessed at
    <cache>/blobs-v1/ab/<digest>     content by sha256, read-only
    <cache>/entries-v1/ab/<key>.json the entry of a stage that succeeded
    <cache>/reads-v1/ab/<key>.json   what stages with one declared record were seen to read, newest first
    <cache>/meanings-v1/ab/<digest>  canonical digest -> the blob that first had that meaning
    <cache>/history-v1/...           last records of each step, for `explain`
    <cache>/logs-v1/...              the log of each step's last run
    <cache>/tmp/<pid>-<random>/      one per run: folders of its jobs, and a lock that says it lives
    <cache>/locks/<key>              held while a stage of that key runs

Everything is written aside and renamed, outputs first and the entry that names them last, so any number of processes
may share a store and a process killed at any moment leaves nothing that looks done.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from trtbuild import __version__
from trtbuild.digest import digest_file, digest_value
from trtbuild.errors import StoreError
from trtbuild.files import read_json, saying_what, unique_folder, write_json
from trtbuild.store.entry import Entry, Output

FORMAT = 1
_KEPT_READS = 16
_ALIVE = ".alive"

try:
    import fcntl
except ImportError:  # Windows, where only loading and inspecting are offered
    fcntl = None  # type: ignore[assignment]


class LocalStore:
    """A store in a folder. Opening creates it; StoreError where that cannot be or it is of a newer format."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._intact: set[str] = set()
        with saying_what("use the cache", root):
            self._open()

    def _open(self) -> None:
        mark = self.root / "format.json"
        found = read_json(mark)
        if found is None:
            self.root.mkdir(parents=True, exist_ok=True)
            if not (self.root / ".gitignore").exists():
                (self.root / ".gitignore").write_text("*\n!.gitignore\n", encoding="ascii")
            (self.root / "CACHEDIR.TAG").write_text(
                "Signature: 8a477f597d28d172789f06886806bc55\n# trtbuild's cache; see bford.info/cachedir\n",
                encoding="ascii",
            )
            write_json(mark, {"format": FORMAT, "trtbuild": __version__})
            return
        mark_of = found if isinstance(found, dict) else {}
        format = mark_of.get("format")
        if format != FORMAT:
            newer = isinstance(format, int) and format > FORMAT
            raise StoreError(
                "The cache was written by a newer trtbuild" if newer else "The cache has an unknown format",
                [
                    ("cache", str(self.root)),
                    ("its format", f"{format} (trtbuild {mark_of.get('trtbuild', 'unknown')})"),
                    ("known here", f"{FORMAT} (trtbuild {__version__})"),
                ],
                "Upgrade trtbuild, or choose another cache with --cache or TRTBUILD_CACHE.",
            )

    # blobs

    def blob(self, digest: str) -> Path:
        """Where the blob of a digest lies or would lie."""
        return self.root / "blobs-v1" / digest[:2] / digest

    def has(self, output: Output) -> bool:
        """Whether the blob of an output is there in full length; its content is checked where it is read."""
        try:
            return self.blob(output.digest).stat().st_size == output.bytes
        except OSError:
            return False

    def intact(self, output: Output) -> bool:
        """Whether the blob of an output is what its digest says. A damaged blob is removed: it is a miss."""
        if output.digest in self._intact:
            return True
        path = self.blob(output.digest)
        try:
            good = digest_file(path) == output.digest
        except OSError:
            return False
        if good:
            self._intact.add(output.digest)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        return good

    def put_blob(self, source: Path, output: Output) -> Output:
        """Move a file into the store. Where its meaning is known already, the older bytes stay and are returned."""
        meaning = self._sharded("meanings-v1", digest_value(output.canonical))
        known = read_json(meaning)
        if known is not None and self.intact(older := Output(**known)):
            source.unlink()
            return older
        path = self.blob(output.digest)
        with saying_what("store an output", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            source.chmod(0o444)
            source.replace(path)
            write_json(meaning, {"digest": output.digest, "canonical": output.canonical, "bytes": output.bytes})
        self._intact.add(output.digest)
        return output

    def of_meaning(self, canonical: str) -> Path | None:
        """A blob with this meaning, if one is there."""
        known = read_json(self._sharded("meanings-v1", digest_value(canonical)))
        return self.blob(known["digest"]) if known is not None and self.has(Output(**known)) else None

    # entries

    def get(self, key: str) -> Entry | None:
        """The entry of a key if all its blobs are there, else None."""
        data = read_json(self._sharded("entries-v1", key, ".json"))
        if not isinstance(data, dict) or data.get("key") != key:
            return None
        entry = Entry.from_json(data)
        return entry if all(self.has(output) for output in entry.outputs.values()) else None

    def put(self, entry: Entry) -> Entry:
        """Store an entry whose blobs are stored; returned as a later run will read it."""
        path = self._sharded("entries-v1", entry.key, ".json")
        with saying_what("store an entry", path):
            write_json(path, entry.to_json())
        return Entry.from_json(json.loads(json.dumps(entry.to_json(), sort_keys=True)))

    def files_of(self, entry: Entry) -> list[Path]:
        """The files that an entry needs to be taken: its own, and those of its outputs."""
        own = self._sharded("entries-v1", entry.key, ".json")
        return [own, *(self.blob(output.digest) for output in entry.outputs.values())]

    # what stages were seen to read

    def reads(self, declared: str) -> list[dict[str, Any]]:
        """The sets of reads seen under a declared key, newest first."""
        found = read_json(self._sharded("reads-v1", declared, ".json"))
        return found if isinstance(found, list) else []

    def put_reads(self, declared: str, reads: Mapping[str, Any]) -> None:
        """Remember what a stage read. Several are kept: switching a branch back and forth stays cached."""
        path = self._sharded("reads-v1", declared, ".json")
        kept = [dict(reads), *(other for other in self.reads(declared) if other != reads)]
        with saying_what("store what a stage read", path):
            write_json(path, kept[:_KEPT_READS])

    # history and logs, by step

    def history(self, step: str) -> dict[str, Any] | None:
        """A step's last "key" and "record", its "seconds" and "peak_memory", and "before": the record before that."""
        found = read_json(self._of_step("history-v1", step, ".json"))
        return found if isinstance(found, dict) else None

    def put_history(self, step: str, record: Mapping[str, Any], key: str, seconds: float, peak_memory: int) -> None:
        """Remember the record under which a step last ran or was found."""
        old = self.history(step)
        if old is not None and old["key"] == key:
            return
        before = {"key": old["key"], "record": old["record"]} if old else None
        path = self._of_step("history-v1", step, ".json")
        with saying_what("store the history of a stage", path):
            write_json(
                path, {"key": key, "record": record, "seconds": seconds, "peak_memory": peak_memory, "before": before}
            )

    def log(self, step: str) -> Path:
        """Where the log of a step's last run lies."""
        return self._of_step("logs-v1", step, ".log")

    # jobs

    @contextmanager
    def session(self) -> Iterator[Path]:
        """A folder for the jobs of one run, on the same file system as the blobs.

        Its lock is held for as long as the run lives, so that a later run knows what a killed one left behind.
        """
        with saying_what("make a folder for the run", self.root / "tmp"), self.lock("sessions"):
            # Under a lock: another run must not take the folder for abandoned before it is marked as alive.
            folder = unique_folder(self.root / "tmp")
            alive = (folder / _ALIVE).open("ab")
            if fcntl is not None:
                fcntl.flock(alive, fcntl.LOCK_EX)
            self._sweep()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            alive.close()

    def _sweep(self) -> None:
        with contextlib.suppress(OSError):
            for mark in (self.root / "tmp").glob(f"*/{_ALIVE}"):
                with mark.open("ab") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        continue
                    shutil.rmtree(mark.parent, ignore_errors=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[BinaryIO]:
        """Hold a lock of this store, waiting for it."""
        with self._lock_file(name) as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def try_lock(self, name: str) -> BinaryIO | None:
        """Hold a lock until the returned file is closed, or None where another process holds it."""
        file = self._lock_file(name)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def _lock_file(self, name: str) -> BinaryIO:
        path = self.root / "locks" / name
        with saying_what("lock the cache", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("ab")

    def _sharded(self, kind: str, name: str, suffix: str = "") -> Path:
        return self.root / kind / name[:2] / f"{name}{suffix}"

    def _of_step(self, kind: str, step: str, suffix: str) -> Path:
        return self.root / kind / f"{step}{suffix}"

    # the whole store

    def info(self) -> dict[str, Any]:
        """Counts and bytes of what the store holds."""
        blobs = [blob.stat().st_size for blob in (self.root / "blobs-v1").glob("*/*")]
        return {
            "path": str(self.root),
            "format": FORMAT,
            "blobs": len(blobs),
            "bytes": sum(blobs),
            "entries": sum(1 for _ in (self.root / "entries-v1").glob("*/*.json")),
        }
