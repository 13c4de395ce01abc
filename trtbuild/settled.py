"""Recipes that had nothing left to do, and all that was looked at to know it: the next run need only look again.

    <cache>/settled-v1/<id>.jsonl    `crc <tab> recipe <tab> JSON` a line; the last line of a recipe counts

One file a place (workspace, store, dist/), selection and environment. Its first line, of no recipe, holds the signs of
trtbuild's own code and of the folders that packages are installed in. A recipe's line holds the signs of the recipe, of
all its stages read and of its artifacts, and the sizes of what the store keeps of it: while none differs, every key,
every entry and every artifact is what it was. Lines are written by `settle`.

A run with nothing to do imports this module and little else; no line is ever believed in part.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from binascii import crc32

from trtbuild import __version__, host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from trtbuild.places import Place

SCHEMA = 2
# A file with this many lines that count no more for each that does is written anew.
_STALE = 2


class Standing:
    """How the recipes of a run stand: `lines` of those with nothing to do, by path; `left`: all others."""

    __slots__ = ("_count", "_environment", "_file", "given", "left", "lines", "place", "recipes")

    def __init__(
        self,
        place: Place,
        recipes: Sequence[str],
        selection: Sequence[Sequence[str]] = ((), ()),
        given: Sequence[str] = (),
    ) -> None:
        self.given = list(given)
        self.place = place
        self.recipes = list(recipes)
        self._environment = _environment(place, selection)
        name = f"{crc32(json.dumps(self._environment).encode()):08x}.jsonl"
        self._file = os.path.join(place.cache, "settled-v1", name)
        known, self._count = self._read()
        bases = place.bases()
        self.lines: dict[str, dict[str, Any]] = {}
        touched: dict[str, dict[str, Any]] = {}
        for recipe in self.recipes:
            line = _parsed(known[recipe]) if recipe in known else None
            if line is None or not _points(line["links"]) or not _has_sizes(line["sizes"], place.cache):
                continue
            if _holds(line["signs"], bases):
                self.lines[recipe] = line
            elif (renewed := _renewed(line, bases, place.cache)) is not None:
                self.lines[recipe] = touched[recipe] = renewed
        self.left = [recipe for recipe in self.recipes if recipe not in self.lines]
        if touched:
            with contextlib.suppress(OSError):
                self.add(touched)

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

    def add(self, lines: Mapping[str, Mapping[str, Any]], signs: Callable[[], Any] | None = None) -> None:
        """Write lines by recipe; `signs` gives those of the environment. OSError where it cannot be written."""
        new = b"".join(_row(recipe, line) for recipe, line in lines.items())
        if signs is None or (self._count and self._count < 100 + _STALE * len(self.recipes)):
            with open(self._file, "ab", buffering=0) as file:
                file.write(new)
            return
        from pathlib import Path

        from trtbuild.files import write_whole

        known, _ = self._read()
        kept = b"".join(row + b"\n" for recipe, row in known.items() if recipe not in lines and os.path.exists(recipe))
        first = _row("", {"environment": self._environment, "signs": {"": signs()}})
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
            if old is None or [new.st_size, new.st_mtime_ns, new.st_ino, new.st_ctime_ns] != old[:4]:
                return False
    return True


def _renewed(line: dict[str, Any], bases: Mapping[str, str], cache: str) -> dict[str, Any] | None:
    """A line with the present signs, if the files whose signs differ have the content they had; else None."""
    from trtbuild.digest import digest_file
    from trtbuild.signs import Clock, sign

    clock = Clock(cache)
    signs: dict[str, dict[str, Any]] = {}
    for base, known in line["signs"].items():
        signs[base] = dict(known)
        for name, old in known.items():
            path = bases[base] + name
            if _holds({"": {path: old}}, {"": ""}):
                continue
            # The fifth part of a sign is the content's digest, where it is a file.
            if old is None or len(old) < 5:
                return None
            try:
                stat = clock.trusted(path)
                if stat is None or stat.st_size != old[0] or digest_file(path) != old[4]:
                    return None
            except OSError:
                return None
            signs[base][name] = [*sign(stat), old[4]]
    return {**line, "signs": signs}


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


def take() -> Standing | None:
    """What the quick look of this process found, once."""
    return _handed.pop() if _handed else None
