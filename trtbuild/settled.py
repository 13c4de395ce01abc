"""Recipes that had nothing left to do, and all that was looked at to know it: the next run need only look again.

    <cache>/settled-v1/<id>.jsonl    `crc <tab> recipe <tab> JSON` a line; the last line of a recipe counts

One file a place (workspace, store, dist/), selection and environment. Its first line, of no recipe, holds the signs of
trtbuild's own code and of the folders that packages are installed in. A recipe's line holds the signs of the recipe, of
all its stages read and of its artifacts, and the sizes of what the store keeps of it: while none differs, every key,
every entry and every artifact is what it was. Lines are written by `settle`.

A run with nothing to do imports this module and little else; no line is ever believed in part.
"""

from __future__ import annotations

import json
import os
import sys
from binascii import crc32

from trtbuild import __version__, host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from trtbuild.places import Place

SCHEMA = 1
# A file with this many lines that count no more for each that does is written anew.
_STALE = 2


class Standing:
    """How the recipes of a run stand: `lines` of those with nothing to do, by path; `left`: all others."""

    __slots__ = ("_count", "_environment", "_file", "left", "lines", "place", "recipes")

    def __init__(self, place: Place, recipes: Sequence[str], selection: Sequence[Sequence[str]] = ((), ())) -> None:
        self.place = place
        self.recipes = list(recipes)
        self._environment = _environment(place, selection)
        name = f"{crc32(json.dumps(self._environment).encode()):08x}.jsonl"
        self._file = os.path.join(place.cache, "settled-v1", name)
        known, self._count = self._read()
        bases = place.bases()
        self.lines: dict[str, dict[str, Any]] = {}
        for recipe in self.recipes:
            line = _parsed(known[recipe]) if recipe in known else None
            if line is not None and _settled(line, bases, place.cache):
                self.lines[recipe] = line
        self.left = [recipe for recipe in self.recipes if recipe not in self.lines]

    def _read(self) -> tuple[dict[str, bytes], int]:
        """The last line of each recipe, and how many lines there are; nothing where the head does not hold."""
        try:
            with open(self._file, "rb") as file:
                rows = file.read().split(b"\n")
        except OSError:
            return {}, 0
        head = _parsed(rows[0])
        if head is None or head["environment"] != self._environment or not _holds(head["signs"], {"": ""}):
            return {}, 0
        known = {parts[1].decode(errors="replace"): row for row in rows[1:] if len(parts := row.split(b"\t", 2)) == 3}
        return known, len(rows)

    def add(self, lines: Mapping[str, Mapping[str, Any]], head: Mapping[str, Any]) -> None:
        """Write lines by recipe. `head` holds the signs of the environment. OSError where that cannot be."""
        new = b"".join(_row(recipe, line) for recipe, line in lines.items())
        if self._count and self._count < 100 + _STALE * len(self.recipes):
            with open(self._file, "ab", buffering=0) as file:
                file.write(new)
            return
        from pathlib import Path

        from trtbuild.files import write_whole

        known, _ = self._read()
        kept = b"".join(row + b"\n" for recipe, row in known.items() if recipe not in lines and os.path.exists(recipe))
        first = _row("", {"environment": self._environment, **head})
        write_whole(Path(self._file), first + kept + new)


def _environment(place: Place, selection: Sequence[Sequence[str]]) -> list[Any]:
    """What a line depends on beside files."""
    machine = os.uname()
    return [
        *(SCHEMA, __version__, sys.version, list(sys.path)),
        *(machine.nodename, machine.machine, host.has_gpu(), host.has_driver()),
        *(place.root, place.cache, place.dist, [list(part) for part in selection]),
    ]


def _row(recipe: str, value: Mapping[str, Any]) -> bytes:
    body = b"%s\t%s" % (recipe.encode(errors="surrogateescape"), json.dumps(value, separators=(",", ":")).encode())
    return b"%08x\t%s\n" % (crc32(body), body)


def _parsed(row: bytes) -> dict[str, Any] | None:
    """The value of a row, or None where the row is not what was written."""
    check, _, body = row.partition(b"\t")
    if check != b"%08x" % crc32(body):
        return None
    value: dict[str, Any] = json.loads(body.partition(b"\t")[2])
    return value


def _holds(signs: Mapping[str, Mapping[str, Sequence[int] | None]], bases: Mapping[str, str]) -> bool:
    """Whether every file is as it was; None stands for one that was not there."""
    stat = os.stat
    for base, known in signs.items():
        prefix = bases[base]
        for name, old in known.items():
            try:
                new = stat(prefix + name)
            except OSError:
                if old is None:
                    continue
                return False
            if old is None or [new.st_size, new.st_mtime_ns, new.st_ino, new.st_ctime_ns] != old:
                return False
    return True


def _settled(line: Mapping[str, Any], bases: Mapping[str, str], cache: str) -> bool:
    return _holds(line["signs"], bases) and _points(line["links"]) and _has_sizes(line["sizes"], cache)


def _points(links: Mapping[str, str]) -> bool:
    try:
        return all(os.readlink(name) == target for name, target in links.items())
    except OSError:
        return False


def _has_sizes(sizes: Mapping[str, int], folder: str) -> bool:
    stat = os.stat
    try:
        return all(stat(f"{folder}/{name}").st_size == size for name, size in sizes.items())
    except OSError:
        return False


_handed: list[Standing] = []


def hand_on(standing: Standing) -> None:
    """Keep what the quick look found for the run that follows in this process."""
    _handed[:] = [standing]


def take(place: Place, recipes: Iterable[str]) -> Standing | None:
    """What the quick look of this process found, once, if it is of the same place and recipes."""
    standing = _handed.pop() if _handed else None
    same = standing is not None and standing.recipes == list(recipes) and standing.place.bases() == place.bases()
    return standing if standing is not None and same and standing.place.cache == place.cache else None
