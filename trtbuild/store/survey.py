"""All that a store holds, looked at in one go: for `cache info`, `cache gc` and `cache verify`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtbuild.keys import declared_of, key_of
from trtbuild.store.entry import Entry, Output
from trtbuild.store.layout import BLOBS, ENTRIES, HISTORY, KINDS, PARTS, is_digest
from trtbuild.store.parts import Part

if TYPE_CHECKING:
    from trtbuild.store.local import LocalStore


@dataclass(frozen=True, slots=True)
class Held:
    """An entry, and when it was last used."""

    entry: Entry
    used: float


@dataclass(frozen=True, slots=True)
class Survey:
    """`entries` by key, lists of `parts` and sizes of `blobs` by digest; `damaged`: files that are no such thing."""

    entries: dict[str, Held]
    parts: dict[str, list[Part]]
    blobs: dict[str, int]
    damaged: list[Path]

    def blobs_of(self, entry: Entry) -> set[str]:
        """The blobs that an entry's outputs lie in, those that are there."""
        found: set[str] = set()
        for output in entry.outputs.values():
            found |= {output.digest, *(part.digest for part in self.parts.get(output.digest, ()))}
        return found & self.blobs.keys()

    def complete(self, entry: Entry) -> bool:
        """Whether all outputs of an entry are there."""
        return all(self._lies(output) for output in entry.outputs.values())

    def _lies(self, output: Output) -> bool:
        if self.blobs.get(output.digest) == output.bytes:
            return True
        parts = self.parts.get(output.digest, [])
        whole = bool(parts) and sum(part.bytes for part in parts) == output.bytes
        return whole and all(self.blobs.get(part.digest) == part.bytes for part in parts)


def survey(store: LocalStore) -> Survey:
    """Read every entry and list of parts, and ask for the size of every blob."""
    entries: dict[str, Held] = {}
    parts: dict[str, list[Part]] = {}
    damaged: list[Path] = []
    for path in sharded(store, ENTRIES):
        used = _mtime(path)
        entry = store.entry(path.stem)
        if entry is not None and used is not None:
            entries[path.stem] = Held(entry, used)
        elif path.exists():
            damaged.append(path)
    for path in sharded(store, PARTS):
        listed = store.parts(path.stem) if is_digest(path.stem) else None
        if listed is not None:
            parts[path.stem] = listed
        elif path.exists():
            damaged.append(path)
    blobs: dict[str, int] = {}
    for path in sharded(store, BLOBS):
        try:
            blobs[path.name] = path.stat().st_size
        except OSError:
            continue
    return Survey(entries, parts, blobs, damaged)


def sharded(store: LocalStore, kind: str) -> Iterator[Path]:
    """The files of a kind that are named by a digest, without what was left half written."""
    return (path for path in sorted((store.root / kind).glob("*/*")) if not path.name.startswith("."))


def reads_key(entry: Entry) -> str | None:
    """Under which key it is kept what the stage of an entry was seen to read, if it is one that reads by itself."""
    return key_of(declared_of(dict(entry.record))) if "reads" in entry.record else None


def steps_of(store: LocalStore, keys: Iterable[str]) -> dict[str, list[str]]:
    """By key, the steps that were last found under it."""
    wanted = set(keys)
    found: dict[str, list[str]] = {}
    root = store.root / HISTORY
    for path in sorted(root.rglob("*.json")):
        step = path.relative_to(root).with_suffix("").as_posix()
        history = store.history(step)
        if history is not None and history["key"] in wanted:
            found.setdefault(str(history["key"]), []).append(step)
    return found


def info(store: LocalStore) -> dict[str, Any]:
    """Counts and bytes: of blobs, of files by folder, of stages by kind as if nothing was shared, and what is saved."""
    from trtbuild.store.local import FORMAT

    found = survey(store)
    outputs = {output.digest: output.bytes for held in found.entries.values() for output in held.entry.outputs.values()}
    entries, sizes = Counter[str](), Counter[str]()
    for held in found.entries.values():
        kind = str(held.entry.record.get("kind", "unknown"))
        entries[kind] += 1
        sizes[kind] += sum(output.bytes for output in held.entry.outputs.values())
    lying = {blob for held in found.entries.values() for blob in found.blobs_of(held.entry)}
    return {
        "path": str(store.root),
        "format": FORMAT,
        "blobs": len(found.blobs),
        "bytes": sum(found.blobs.values()),
        "entries": len(found.entries),
        "unreferenced_bytes": sum(size for digest, size in found.blobs.items() if digest not in lying),
        "saved_by_copies": sum(sizes.values()) - sum(outputs.values()),
        "saved_by_parts": max(0, sum(outputs.values()) - sum(found.blobs[digest] for digest in lying)),
        "kinds": {kind: {"entries": entries[kind], "bytes": sizes[kind]} for kind in sorted(entries)},
        "files": {kind: _bytes_below(store.root / kind) for kind in KINDS},
    }


def _bytes_below(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def _mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
