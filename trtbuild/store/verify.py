"""Reads all of a store and drops what is not as it was written, so that it is made again.

Reading takes long and holds nobody up; only where something is damaged is the store's gate held alone, and the file
looked at once more: a run may have put a good one in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_file
from trtbuild.keys import key_of
from trtbuild.signs import sign
from trtbuild.store.checked import read_checked
from trtbuild.store.copying import Unreadable, join
from trtbuild.store.layout import BLOBS, ENTRIES, HISTORY, MEANINGS, PARTS, READS, ROOTS
from trtbuild.store.local import LocalStore
from trtbuild.store.survey import sharded, steps_of, survey


@dataclass(slots=True)
class Verified:
    """How many files of each kind were read, and what was wrong with which.

    `damaged`: files that were not as they were written, by their path in the store; `stages`: those that will run
    again for it; `abandoned`: folders of killed runs.
    """

    read: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def verify(store: LocalStore) -> Verified:
    """Read every file of the store; drop what is damaged."""
    done = Verified()
    with store.lock("gc"):
        with store.lock("sessions"):
            done.abandoned = store.sweep()
        checking = _Checking(store, done)
        checking.each(BLOBS, lambda path: digest_file(path) == path.name)
        done.bytes = sum(_size(path) for path in sharded(store, BLOBS))
        checking.each(PARTS, checking.makes_up_its_whole)
        checking.each(ENTRIES, checking.is_entry)
        checking.each(READS, lambda path: isinstance(read_checked(path), list))
        checking.each(MEANINGS, lambda path: store.meant(path) is not None)
        checking.files(HISTORY, sorted((store.root / HISTORY).rglob("[!.]*.json")), checking.is_history)
        roots = sorted((store.root / ROOTS).glob("[!.]*.json"))
        checking.files(ROOTS, roots, lambda path: isinstance(read_checked(path), dict))
        checking.drop_incomplete()
    return done


class _Checking:
    def __init__(self, store: LocalStore, done: Verified) -> None:
        self.store = store
        self.done = done
        self._lost: list[str] = []

    def each(self, kind: str, good: Callable[[Path], bool]) -> None:
        self.files(kind, list(sharded(self.store, kind)), good)

    def files(self, kind: str, paths: list[Path], good: Callable[[Path], bool]) -> None:
        count = 0
        for path in paths:
            seen = _sign(path)
            if seen is None:
                continue
            count += 1
            if not _asked(good, path):
                self._drop(path, seen)
        self.done.read[kind] = count

    def makes_up_its_whole(self, path: Path) -> bool:
        parts = self.store.parts(path.stem)
        try:
            return parts is not None and join([self.store.blob(part.digest) for part in parts], None) == path.stem
        except Unreadable:
            return False

    def is_entry(self, path: Path) -> bool:
        entry = self.store.entry(path.stem)
        if entry is None:
            self._lost.append(path.stem)
        return entry is not None and key_of(dict(entry.record)) == entry.key

    def is_history(self, path: Path) -> bool:
        step = path.relative_to(self.store.root / HISTORY).as_posix().removesuffix(".json")
        return self.store.history(step) is not None

    def drop_incomplete(self) -> None:
        """Drop the entries that name what is not there any more, and tell the stages that damage sends back to work."""
        found = survey(self.store)
        incomplete = {key: held.entry for key, held in found.entries.items() if not found.complete(held.entry)}
        for key in incomplete:
            path = self.store.entry_path(key)
            if (seen := _sign(path)) is not None:
                self._drop(path, seen)
        lost = dict.fromkeys([*self._lost, *incomplete])
        steps = steps_of(self.store, lost)
        for key in lost:
            kind = incomplete[key].record.get("kind", "stage") if key in incomplete else "stage"
            self.done.stages += steps.get(key) or [f"{kind} {key[:12]}"]

    def _drop(self, path: Path, seen: tuple[int, ...]) -> None:
        with self.store.gate.alone():
            if _sign(path) != seen:
                return
            try:
                path.unlink()
            except OSError:
                return
        self.done.damaged.append(path.relative_to(self.store.root).as_posix())


def _asked(good: Callable[[Path], bool], path: Path) -> bool:
    try:
        return good(path)
    except OSError:
        return False


def _sign(path: Path) -> tuple[int, ...] | None:
    try:
        return sign(os.stat(path))
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
