"""What trtbuild's own figures should be, as ratios to the peers' and as limits of its own."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.bench.null_build.cells import CHANGED, NULL, TOUCHED, Cell

_DOIT = 0.6
_NINJA = 10
_TOUCHED = 1.1
_CHANGED_MS = 50
_MEBIBYTES = 60
_MANY = 1000

Cells = Mapping[tuple[str, int], Cell]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and what it should be at most; `unit` is x for ratios."""

    what: str
    found: float
    most: float
    unit: str

    @property
    def met(self) -> bool:
        return self.found <= self.most


def goals(cells: Cells) -> Iterator[Goal]:
    """The goals for which both sides were measured."""
    for size in sorted({size for name, size in cells if name == "trtbuild"}):
        own = cells["trtbuild", size]
        doit, ninja = cells.get(("doit", size)), cells.get(("ninja", size))
        if size < _MANY and (ratio := _ratio(own, NULL, doit, NULL)):
            yield Goal(f"null build of {size} / doit", ratio, _DOIT, "x")
        if size >= _MANY and (ratio := _ratio(own, NULL, ninja, NULL)):
            yield Goal(f"null build of {size} / ninja", ratio, _NINJA, "x")
        if ratio := _ratio(own, TOUCHED, own, NULL):
            yield Goal(f"touched input of {size} / null", ratio, _TOUCHED, "x")
        if size >= _MANY:
            yield from _of_many(own, cells.get(("trtbuild", 1)))


def _ratio(one: Cell, scenario: str, other: Cell | None, than: str) -> float | None:
    """The median ratio of runs of one round: what else the machine did changes from round to round."""
    if other is None:
        return None
    pairs = list(zip(one.samples[scenario], other.samples[than], strict=False))
    return statistics.median(a.seconds / b.seconds for a, b in pairs) if pairs else None


def _of_many(many: Cell, alone: Cell | None) -> Iterator[Goal]:
    null, changed = many.median(NULL), many.median(CHANGED)
    if alone is not None and null and changed:
        one, one_null = alone.median(CHANGED), alone.median(NULL)
        if one and one_null:
            # What the stages themselves take is seen best where there is nothing else.
            over = (changed.seconds - null.seconds - (one.seconds - one_null.seconds)) * 1e3
            yield Goal(f"changed input of {many.size}, beyond null and its own stages", over, _CHANGED_MS, "ms")
    for scenario, found in ((NULL, null), (CHANGED, changed)):
        if found:
            yield Goal(f"memory, {scenario}, {many.size} recipes", found.mebibytes, _MEBIBYTES, "MiB")
