"""The store on disk; `layout` says where what lies.

Everything is written aside and renamed, outputs first and the entry that names them last, so any number of processes
may share a store and a process killed at any moment leaves nothing that looks done. Whatever is read is checked: what
is not as it was written is a miss, and is dropped so that it is written again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from trtbuild import __version__
from trtbuild.digest import digest_file, digest_value
from trtbuild.errors import MachineError, StoreError
from trtbuild.files import read_json, saying_what, unique_folder, write_json
from trtbuild.signs import sign
from trtbuild.store.checked import read_checked, write_checked
from trtbuild.store.entry import Entry, Output
from trtbuild.store.layout import BLOBS, ENTRIES, HISTORY, LOCKS, LOGS, MEANINGS, PARTS, READS, ROOTS, TMP
from trtbuild.store.locks import Gate, Lock, take
from trtbuild.store.parts import Part, list_from_json, list_to_json

FORMAT = 1
_KEPT_READS = 16
_ALIVE = ".alive"
# In the folder of a run: outputs that are kept in parts, whole for its jobs.
_WHOLE = ".whole"


class LocalStore:
    """A store in a folder. Opening creates it; StoreError where that cannot be or it is of a newer format."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gate = Gate(root / LOCKS / "gate")
        # By digest, the signs of the files that held an output when they were last found to be what they should be.
        self._good: dict[str, list[tuple[int, ...]]] = {}
        self._session: Path | None = None
        self._opened = time.time()
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

    # outputs

    def blob(self, digest: str) -> Path:
        """Where the blob of a digest lies or would lie."""
        return self.root / BLOBS / digest[:2] / digest

    def parts_path(self, digest: str) -> Path:
        """Where the list of an output's parts lies or would lie."""
        return self._sharded(PARTS, digest)

    def parts(self, digest: str) -> list[Part] | None:
        """The parts that an output is kept in, if it is."""
        try:
            return list_from_json(read_checked(self.parts_path(digest)))
        except ValueError:
            return None

    def has(self, output: Output) -> bool:
        """Whether an output is there in full length; its content is checked where it is read."""
        return self._files(output) is not None

    def _files(self, output: Output) -> list[Part] | None:
        """The blobs that hold an output, one after the other."""
        whole = Part(output.digest, output.bytes)
        if self._lies(whole):
            return [whole]
        parts = self.parts(output.digest)
        if parts is None or sum(part.bytes for part in parts) != output.bytes:
            return None
        return parts if all(self._lies(part) for part in parts) else None

    def _lies(self, part: Part) -> bool:
        try:
            return os.stat(self.blob(part.digest)).st_size == part.bytes
        except OSError:
            return False

    def intact(self, output: Output) -> bool:
        """Whether an output is what its digest says. What is damaged of it is removed: it is a miss."""
        return self._join(output, None)

    def write(self, output: Output, target: Path) -> bool:
        """Write an output as a new file, or return False where it is damaged or gone. OSError where it cannot be."""
        return self._join(output, target)

    def path_of(self, output: Output, folder: Path) -> Path | None:
        """An output as a file to read and not to write: its blob or, of one kept in parts, a file below `folder`.

        None where it is damaged or gone.
        """
        whole = folder / _WHOLE / output.digest
        if (known := self._good.get(str(whole))) and known == self._signs([whole]):
            return whole
        if self._lies(Part(output.digest, output.bytes)) and self.intact(output):
            return self.blob(output.digest)
        with saying_what("write an input of a stage", whole):
            whole.parent.mkdir(exist_ok=True)
            whole.unlink(missing_ok=True)
            if not self.write(output, whole):
                return None
            self._now_good(str(whole), whole)
        return whole

    def untouched(self, output: Output, folder: Path) -> bool:
        """Whether an output that `path_of` gave is still what it was: blobs are read-only, but not to root."""
        whole = str(folder / _WHOLE / output.digest)
        return self._good[whole] == self._signs([Path(whole)]) if whole in self._good else self.intact(output)

    def _join(self, output: Output, target: Path | None) -> bool:
        while (files := self._files(output)) is not None:
            if self._join_files(output, files, target):
                return True
            # Once more with what is left: an output may be there both whole and in parts.
            if not self._drop_damaged(output, files):
                break
        return False

    def _join_files(self, output: Output, files: Sequence[Part], target: Path | None) -> bool:
        from trtbuild.store.copying import Unreadable, copy, join

        paths = [self.blob(part.digest) for part in files]
        try:
            # Taken before the files are read: whoever writes to one meanwhile or later is found out.
            signs = self._signs(paths)
            if signs and signs == self._good.get(output.digest):
                if target is None:
                    return True
                if len(paths) == 1:
                    copy(paths[0], target)
                    return True
            good = join(paths, target) == output.digest
        except Unreadable:
            good = False
        if good:
            self._good[output.digest] = signs
        elif target is not None:
            target.unlink(missing_ok=True)
        return good

    def _drop_damaged(self, output: Output, files: Sequence[Part]) -> bool:
        """Remove what of these files is not as it should be; whether anything was."""
        dropped = [self._dropped_if_damaged(part.digest) for part in files]
        if not any(dropped) and len(files) > 1:
            with suppress(OSError):
                self.parts_path(output.digest).unlink()
            return True
        return any(dropped)

    def _dropped_if_damaged(self, digest: str) -> bool:
        path = self.blob(digest)
        seen = self._signs([path])
        try:
            good = digest_file(path) == digest
        except OSError:
            good = False
        # Another process may have put a good one in its place meanwhile.
        if not good and seen == self._signs([path]):
            with suppress(OSError):
                path.unlink()
        return not good

    def _signs(self, paths: Sequence[Path]) -> list[tuple[int, ...]]:
        """The signs of files, none where one of them is gone. Without ctime: a stage may link to what it is given."""
        try:
            return [sign(os.stat(path))[:3] for path in paths]
        except OSError:
            return []

    def put_output(self, source: Path, found: Mapping[str, Any], folder: Path | None = None) -> Output:
        """Move a file into the store as a job has described it: an output's fields and, if there are any, its "parts".

        Where its meaning is known already, the older bytes stay and are returned. What is kept in parts stays in one
        piece below `folder` too, for the jobs that read it next.
        """
        output = Output.from_json({name: value for name, value in found.items() if name != "parts"})
        meaning = self._sharded(MEANINGS, digest_value(output.canonical))
        parts = [Part(*part) for part in found.get("parts", ())]
        assert sum(part.bytes for part in parts) in (0, output.bytes)
        with saying_what("store an output", self.blob(output.digest)), self.gate:
            known = self.meant(meaning)
            if known is not None and known.canonical == output.canonical and self.intact(known):
                source.unlink()
                self._keep(known)
                return known
            if parts and not self._lies(Part(output.digest, output.bytes)):
                self._put_parts(source, output, parts)
                if folder is not None:
                    whole = folder / _WHOLE / output.digest
                    whole.parent.mkdir(exist_ok=True)
                    _move(source, whole)
                    self._now_good(str(whole), whole)
                else:
                    source.unlink()
            else:
                _move(source, self.blob(output.digest))
                self._now_good(output.digest, self.blob(output.digest))
            write_checked(meaning, output.to_json())
        return output

    def _put_parts(self, source: Path, output: Output, parts: Sequence[Part]) -> None:
        from trtbuild.store.copying import copy_stretch

        start = 0
        for part in parts:
            if self._lies(part):
                self._keep_blob(part.digest)
            else:
                # Beside the source, in the folder of the run: what a killed one leaves there is swept.
                aside = source.with_name(f".part-{part.digest}")
                copy_stretch(source, start, part.bytes, aside)
                _move(aside, self.blob(part.digest))
            start += part.bytes
        write_checked(self.parts_path(output.digest), list_to_json(parts))
        # Just written from what the job digested.
        self._good[output.digest] = self._signs([self.blob(part.digest) for part in parts])

    def _keep(self, output: Output) -> None:
        for part in self._files(output) or ():
            self._keep_blob(part.digest)

    def _keep_blob(self, digest: str) -> None:
        """Mark a blob as stored now: until an entry names it, its age alone keeps `cache gc` from removing it."""
        self._touch(self.blob(digest))

    def _touch(self, path: Path) -> None:
        with suppress(OSError):
            if os.stat(path).st_mtime < self._opened:
                os.utime(path)

    def _now_good(self, name: str, path: Path) -> None:
        self._good[name] = self._signs([path])

    def open_meaning(self, canonical: str) -> BinaryIO | None:
        """A file with this meaning to read, if one is there; what it holds is not checked."""
        known = self.meant(self._sharded(MEANINGS, digest_value(canonical)))
        files = self._files(known) if known is not None and known.canonical == canonical else None
        if not files:
            return None
        try:
            if len(files) == 1:
                return self.blob(files[0].digest).open("rb")
        except OSError:
            return None
        from trtbuild.store.joined import Joined

        return BufferedReader(Joined([(self.blob(part.digest), part.bytes) for part in files]))

    def meant(self, path: Path) -> Output | None:
        """The output that a file of a meaning names."""
        try:
            return Output.from_json(read_checked(path))
        except ValueError:
            return None

    # entries

    def get(self, key: str) -> Entry | None:
        """The entry of a key if all its outputs are there, else None. Being asked for keeps it from `cache gc`."""
        with self.gate:
            entry = self.entry(key)
            if entry is None or not all(self.has(output) for output in entry.outputs.values()):
                return None
            self._touch(self.entry_path(key))
        return entry

    def entry(self, key: str) -> Entry | None:
        """The entry of a key, whether its outputs are there or not."""
        try:
            entry = Entry.from_json(read_checked(self.entry_path(key)))
        except ValueError:
            return None
        return entry if entry.key == key else None

    def entry_path(self, key: str) -> Path:
        """Where the entry of a key lies or would lie."""
        return self._sharded(ENTRIES, key)

    def put(self, entry: Entry) -> Entry:
        """Store an entry whose outputs are stored; returned as a later run will read it."""
        from trtbuild.store.checked import as_read

        path = self.entry_path(entry.key)
        with saying_what("store an entry", path), self.gate:
            write_checked(path, entry.to_json())
        return Entry.from_json(as_read(entry.to_json()))

    def files_of(self, entry: Entry) -> list[Path]:
        """The files that an entry needs to be taken: its own, and those of its outputs."""
        found = [self.entry_path(entry.key)]
        for output in entry.outputs.values():
            files = self._files(output) or [Part(output.digest, output.bytes)]
            if len(files) > 1:
                found.append(self.parts_path(output.digest))
            found += [self.blob(part.digest) for part in files]
        return found

    # what stages were seen to read

    def reads(self, declared: str) -> list[dict[str, Any]]:
        """The sets of reads seen under a declared key, newest first."""
        found = read_checked(self._sharded(READS, declared))
        return found if isinstance(found, list) and all(isinstance(one, dict) for one in found) else []

    def put_reads(self, declared: str, reads: Mapping[str, Any]) -> None:
        """Remember what a stage read. Several are kept: switching a branch back and forth stays cached."""
        path = self._sharded(READS, declared)
        kept = [dict(reads), *(other for other in self.reads(declared) if other != reads)]
        with saying_what("store what a stage read", path), self.gate:
            write_checked(path, kept[:_KEPT_READS])

    # history and logs, by step

    def history(self, step: str) -> dict[str, Any] | None:
        """A step's last "key" and "record", its "seconds" and "peak_memory", and "before": the record before that.

        "last" is the last run that did something for it: "run" when, "why" it ran (None: it came from the cache),
        "moved" whether under another key than before. "failed" is a failure since then: "run" and "error".
        """
        found = read_checked(self._of_step(HISTORY, step, ".json"))
        whole = isinstance(found, dict) and {"step", "key", "record", "seconds", "before"} <= found.keys()
        # Two steps may share the name of a file, in different folders.
        return (
            {name: value for name, value in found.items() if name != "step"}
            if whole and found["step"] == step
            else None
        )

    def put_history(
        self,
        step: str,
        record: Mapping[str, Any],
        key: str,
        seconds: float,
        peak_memory: int,
        *,
        run: int = 0,
        why: str | None = None,
    ) -> None:
        """Remember the record under which a step last ran, and why, or was found; `run` tells runs apart by time."""
        old = self.history(step)
        moved = old is None or old["key"] != key
        if old is not None and not moved and why is None:
            if "failed" in old:
                self._write_history(step, {name: value for name, value in old.items() if name != "failed"})
            return
        before = {"key": old["key"], "record": old["record"]} if old and moved else (old or {}).get("before")
        made = {"key": key, "record": record, "seconds": seconds, "peak_memory": peak_memory, "before": before}
        self._write_history(step, {**made, "last": {"run": run, "why": why, "moved": moved}})

    def note_failure(self, step: str, error: str, run: int) -> None:
        """Remember that a step failed which did not before; of one that never succeeded there is nothing to tell."""
        if (old := self.history(step)) is not None:
            self._write_history(step, {**old, "failed": {"run": run, "error": error}})

    def _write_history(self, step: str, history: Mapping[str, Any]) -> None:
        path = self._of_step(HISTORY, step, ".json")
        with saying_what("store the history of a stage", path):
            write_checked(path, {"step": step, **history})

    def log(self, step: str) -> Path:
        """Where the log of a step's last run lies."""
        return self._of_step(LOGS, step, ".log")

    # what is not to be removed

    def keep_dist(self, dist: Path) -> None:
        """Keep from now on what the manifests below a folder name, for as long as the folder is there."""
        path = self.root / ROOTS / f"{digest_value(str(dist))}.json"
        # From a store that cannot be written to nothing is removed either.
        if not path.exists() and os.access(self.root, os.W_OK):
            with saying_what("note an output folder", path), self.gate:
                write_checked(path, {"dist": str(dist)})

    @contextmanager
    def session(self) -> Iterator[Path]:
        """A folder for the jobs of one run, on the same file system as the blobs; one within another is the same.

        Its lock is held for as long as the run lives: a later run knows by it what a killed one left behind, and
        `cache gc` that what was used or stored since it began is in use.
        """
        if self._session is not None:
            yield self._session
            return
        with saying_what("make a folder for the run", self.root / TMP), self.lock("sessions"):
            # Under a lock: another run must not take the folder for abandoned before it is marked as alive.
            folder = unique_folder(self.root / TMP)
            alive = take(folder / _ALIVE, wait=True)
            os.utime(folder / _ALIVE, (self._opened, self._opened))
            self.sweep()
        self._session = folder
        try:
            yield folder
        finally:
            self._session = None
            shutil.rmtree(folder, ignore_errors=True)
            if alive is not None:
                alive.close()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A session for a run that perhaps has nothing to write: where the store cannot be written to, none."""
        with ExitStack() as stack:
            with suppress(MachineError):
                stack.enter_context(self.session())
            yield

    def sweep(self) -> list[str]:
        """Remove the folders of runs that were killed; their names. To be called with the lock `sessions`."""
        swept = []
        for folder in self.sessions():
            if (alive := self._abandoned(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                alive.close()
                swept.append(folder.name)
        return swept

    def sessions(self) -> list[Path]:
        """The folders of runs, killed ones among them."""
        with suppress(OSError):
            return sorted((self.root / TMP).iterdir())
        return []

    def running_since(self) -> float | None:
        """When the oldest run began that still goes on. To be called with the lock `sessions`, after `sweep`."""
        begun = []
        for folder in self.sessions():
            with suppress(OSError):
                begun.append(os.stat(folder / _ALIVE).st_mtime)
        return min(begun, default=None)

    def _abandoned(self, folder: Path) -> Lock | None:
        with suppress(OSError):
            return take(folder / _ALIVE, wait=False)
        return None

    def lock(self, name: str) -> Lock:
        """Hold a lock of this store, waiting for it, until it is closed."""
        path = self.root / LOCKS / name
        with saying_what("lock the cache", path):
            lock = take(path, wait=True)
        assert lock is not None
        return lock

    def try_lock(self, name: str) -> Lock | None:
        """Hold a lock until it is closed, or None where another process holds it."""
        path = self.root / LOCKS / name
        with saying_what("lock the cache", path):
            return take(path, wait=False)

    def info(self) -> dict[str, Any]:
        """Counts and bytes of what the store holds, and what sharing parts saves."""
        from trtbuild.store.survey import info

        return info(self)

    def _sharded(self, kind: str, name: str) -> Path:
        return self.root / kind / name[:2] / f"{name}.json"

    def _of_step(self, kind: str, step: str, suffix: str) -> Path:
        return self.root / kind / f"{step}{suffix}"


def _move(source: Path, target: Path) -> None:
    """Move a file to where it is read-only from then on."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.chmod(0o444)
    source.replace(target)
