"""The first of many values that is off, with few measured at a time.

Every value that is measured changes what is measured: an engine that must hand a value out cannot fuse across it. So
the values are narrowed down in two rounds: a few marks over the whole program, then what lies between the last good
one and the first that is off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trtbuild.verification.compare import Comparison

COARSE = 16
FINE = 64

Measure = Callable[[Sequence[str]], Mapping[str, Comparison]]


@dataclass(frozen=True, slots=True)
class Found:
    """The first value that is off, with its error and that of the last good one before it, where there is one."""

    name: str
    after: Comparison
    last_good: str | None
    before: Comparison | None
    rounds: int
    note: str = ""


def first_off(names: Sequence[str], measure: Measure, coarse: int = COARSE, fine: int = FINE) -> Found | None:
    """The first of `names`, which are in the order in which they are computed, that is off; None where none is.

    `measure` gives the comparisons of the names that it can; the others are passed over.
    """
    known = dict(measure(spread(names, coarse)))
    off = _first(names, known)
    if off is None:
        return None
    begin = _last_good(names, known, off)
    between = list(names[begin + 1 : off])
    if not between:
        return _found(names, known, off, 1)
    known.update(measure(spread(between, fine)))
    again = _first(names, {name: known[name] for name in between if name in known})
    if again is None:
        note = "None of the values before it is off once all are handed out, which changes how layers are fused."
        return _found(names, known, off, 2, note)
    return _found(names, known, again, 2)


def spread(names: Sequence[str], count: int) -> list[str]:
    """At most `count` names, evenly spread, the last among them."""
    if len(names) <= count:
        return list(names)
    return [names[(index + 1) * len(names) // count - 1] for index in range(count)]


def _first(names: Sequence[str], known: Mapping[str, Comparison]) -> int | None:
    return next((i for i, name in enumerate(names) if name in known and not known[name].passed), None)


def _last_good(names: Sequence[str], known: Mapping[str, Comparison], off: int) -> int:
    return next((i for i in range(off - 1, -1, -1) if names[i] in known), -1)


def _found(names: Sequence[str], known: Mapping[str, Comparison], off: int, rounds: int, note: str = "") -> Found:
    good = _last_good(names, known, off)
    before = known[names[good]] if good >= 0 else None
    if not note and before is not None and before.of_tolerance > 0.5:
        note = "The error was near its tolerance before: it grows from layer to layer, and no single one is to blame."
    return Found(names[off], known[names[off]], names[good] if good >= 0 else None, before, rounds, note)
