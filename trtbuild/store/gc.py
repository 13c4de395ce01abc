"""Removes from a store what nobody needs.

Kept whatever is asked: entries behind the manifests of a dist/ that is still there, with all that a later run of it
takes from the store; and what was used or stored since the oldest run began that still goes on.

Removed in an order in which a run or a kill at any moment finds nothing that looks complete and is not: entries first,
then what they named. All of it is decided and removed while the store's gate is held alone, so that no run can take an
entry between the decision and the removal.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trtbuild.errors import StoreError
from trtbuild.store.checked import read_checked
from trtbuild.store.layout import (
    BLOBS,
    ENTRIES,
    HISTORY,
    LOCKS,
    LOGS,
    MEANINGS,
    PARTS,
    PLANS,
    READS,
    ROOTS,
    SETTLED,
    is_outdated,
)
from trtbuild.store.local import LocalStore
from trtbuild.store.survey import Held, Survey, reads_key, sharded, survey

# Notes of steps and plans that nobody has any more are small, and of use to who goes back to them.
_NOTES_AGE = 30 * 86400.0
# Half-written files: no write takes this long.
_ASIDE_AGE = 3600.0


@dataclass(slots=True)
class Collected:
    """What was removed, or would be: files by kind, and bytes. `over`: bytes by which the store is still too large."""

    dry_run: bool
    removed: dict[str, int] = field(default_factory=dict)
    freed: int = 0
    kept: int = 0
    kept_for_dist: int = 0
    kept_for_runs: int = 0
    over: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def collect(
    store: LocalStore, *, max_size: int | None = None, max_age: float | None = None, dry_run: bool = False
) -> Collected:
    """Remove what nothing refers to, entries unused for `max_age` seconds, the least recently used beyond `max_size`.

    StoreError where a dist/ is there whose manifests cannot be read: what it needs is not known then.
    """
    with store.lock("gc"), store.lock("sessions"), store.gate.alone():
        return _Collection(store, dry_run).run(max_size, max_age)


class _Collection:
    def __init__(self, store: LocalStore, dry_run: bool) -> None:
        self.store = store
        self.dry_run = dry_run
        self.now = time.time()
        self.done = Collected(dry_run)
        self._removed: Counter[str] = Counter()

    def run(self, max_size: int | None, max_age: float | None) -> Collected:
        if not self.dry_run:
            self._removed["runs"] = len(self.store.sweep())
        since = self.store.running_since()
        found = survey(self.store)
        wanted = self._wanted_by_dist()
        for_dist = {key for key in wanted if key in found.entries}
        for_runs = {key for key, held in found.entries.items() if since is not None and held.used >= since} - for_dist
        kept, unreferenced = self._chosen(found, for_dist | for_runs, since, max_size, max_age)
        self.done.kept, self.done.kept_for_dist, self.done.kept_for_runs = len(kept), len(for_dist), len(for_runs)
        self._remove("entries", [self.store.entry_path(key) for key in found.entries if key not in kept])
        self._remove("damaged", found.damaged)
        self._remove_unreferenced(found, kept, unreferenced, since)
        self._remove_notes(kept, max_age)
        self._remove_rest()
        self.done.removed = {kind: count for kind, count in sorted(self._removed.items()) if count}
        return self.done

    def _wanted_by_dist(self) -> set[str]:
        """Keys that the manifests of known dist folders name; a folder that is gone is forgotten."""
        keys: set[str] = set()
        for path in sorted((self.store.root / ROOTS).glob("[!.]*.json")):
            root = read_checked(path)
            dist = root.get("dist") if isinstance(root, dict) else None
            if not isinstance(dist, str) or not os.path.isdir(dist):
                self._remove("roots", [path])
                continue
            keys |= _keys_below(Path(dist))
        return keys

    def _chosen(
        self, found: Survey, fixed: set[str], since: float | None, max_size: int | None, max_age: float | None
    ) -> tuple[dict[str, Held], set[str]]:
        """The entries to keep, and the blobs to remove since none of these refers to them."""
        kept = {
            key: held
            for key, held in found.entries.items()
            if found.complete(held.entry) and (key in fixed or max_age is None or self.now - held.used <= max_age)
        }
        users = Counter(blob for held in kept.values() for blob in found.blobs_of(held.entry))
        unreferenced = {blob for blob in found.blobs if blob not in users and not self._fresh(blob, since)}
        size = sum(size for blob, size in found.blobs.items() if blob not in unreferenced)
        for key in sorted((key for key in kept if key not in fixed), key=lambda key: kept[key].used):
            if max_size is None or size <= max_size:
                break
            for blob in found.blobs_of(kept.pop(key).entry):
                users[blob] -= 1
                if not users[blob] and not self._fresh(blob, since):
                    unreferenced.add(blob)
                    size -= found.blobs[blob]
        self.done.over = 0 if max_size is None else max(0, size - max_size)
        return kept, unreferenced

    def _fresh(self, blob: str, since: float | None) -> bool:
        """Whether a blob may be one that a run has stored and whose entry is still to come."""
        return since is not None and _stat(self.store.blob(blob))[0] >= since

    def _remove_unreferenced(
        self, found: Survey, kept: dict[str, Held], unreferenced: set[str], since: float | None
    ) -> None:
        outputs = {output.digest for held in kept.values() for output in held.entry.outputs.values()}
        gone = [digest for digest in found.parts if digest not in outputs and self._list_is_idle(digest, since)]
        self._remove("parts", [self.store.parts_path(digest) for digest in gone])
        self._remove("blobs", [self.store.blob(digest) for digest in unreferenced])
        reads = {reads_key(held.entry) for held in kept.values()}
        idle = [path for path in sharded(self.store, READS) if path.stem not in reads]
        self._remove("reads", [path for path in idle if since is None or _stat(path)[0] < since])
        lying = (found.blobs.keys() - unreferenced) | (found.parts.keys() - set(gone))
        for path in sharded(self.store, MEANINGS):
            known = self.store.meant(path)
            if known is None or known.digest not in lying:
                self._remove("meanings", [path])

    def _list_is_idle(self, digest: str, since: float | None) -> bool:
        return since is None or _stat(self.store.parts_path(digest))[0] < since

    def _remove_notes(self, kept: dict[str, Held], max_age: float | None) -> None:
        """History and logs of steps whose entries are gone, and remembered plans, once they are old."""
        age = _NOTES_AGE if max_age is None else max_age
        history = self.store.root / HISTORY
        living: set[str] = {"workers"}
        for path in sorted(history.rglob("[!.]*.json")):
            step = path.relative_to(history).as_posix().removesuffix(".json")
            known = self.store.history(step)
            if known is not None and (known["key"] in kept or self.now - _stat(path)[0] <= age):
                living.add(step)
            else:
                self._remove("history", [path])
        logs = self.store.root / LOGS
        for path in sorted(logs.rglob("*.log")):
            step = path.relative_to(logs).as_posix().removesuffix(".log")
            if step not in living and self.now - _stat(path)[0] > age:
                self._remove("logs", [path])
        for kind in (PLANS, SETTLED):
            files = [path for path in (self.store.root / kind).glob("[!.]*") if path.is_file()]
            self._remove("plans", [path for path in files if self.now - _stat(path)[0] > age])

    def _remove_rest(self) -> None:
        root = self.store.root
        for kind in (BLOBS, PARTS, ENTRIES, READS, MEANINGS, HISTORY, ROOTS, PLANS, SETTLED):
            aside = [path for path in (root / kind).rglob(".*") if path.is_file()]
            self._remove("half-written", [path for path in aside if self.now - _stat(path)[0] > _ASIDE_AGE])
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and is_outdated(folder.name):
                self._remove("outdated", [path for path in folder.rglob("*") if path.is_file()])
                if not self.dry_run:
                    shutil.rmtree(folder, ignore_errors=True)
        # A lock that was held when its process was killed leaves its file; who takes it and lets go removes it.
        for path in sorted((root / LOCKS).glob("*")):
            if path.name not in ("gate", "gc", "sessions") and not self.dry_run:
                lock = self.store.try_lock(path.name)
                if lock is not None:
                    lock.close()
                    self._removed["locks"] += 1

    def _remove(self, kind: str, paths: Iterable[Path]) -> None:
        for path in paths:
            size = _stat(path)[1]
            try:
                if not self.dry_run:
                    path.unlink()
            except OSError:
                continue
            self._removed[kind] += 1
            self.done.freed += size


def _keys_below(dist: Path) -> set[str]:
    def refuse(error: OSError) -> None:
        raise StoreError(
            "A folder of artifacts cannot be read, so what it needs of the cache is not known",
            [("folder", str(dist)), ("path", str(error.filename)), ("reason", error.strerror or str(error))],
            "Make it readable, or remove it if its artifacts are not needed.",
        ) from error

    keys: set[str] = set()
    for folder, _, names in os.walk(dist, onerror=refuse):
        if "manifest.json" not in names:
            continue
        try:
            manifest = json.loads(Path(folder, "manifest.json").read_bytes())
        except FileNotFoundError:
            continue
        except OSError as error:
            refuse(error)
        except ValueError:
            continue  # no manifest of ours, or one whose run will write it again
        stages = manifest.get("stages") if isinstance(manifest, dict) else None
        for stage in stages if isinstance(stages, list) else ():
            if isinstance(stage, dict) and isinstance(stage.get("key"), str):
                keys.add(stage["key"])
    return keys


def _stat(path: Path) -> tuple[float, int]:
    """mtime and size; of a file that is gone, as of one that was never used."""
    try:
        found = path.stat()
    except OSError:
        return 0.0, 0
    return found.st_mtime, found.st_size
