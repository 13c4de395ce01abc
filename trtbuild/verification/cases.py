"""Where an artifact is compared with its source model: the corners of its dims' ranges, and points drawn within."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Ranges = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Case:
    """A size for every dim, and the seed that the values of the inputs are drawn under."""

    at: Mapping[str, int]
    seed: int

    def dims(self) -> dict[str, dict[str, int]]:
        """The dims as `stages.inputs` takes them, each of one size alone."""
        return {name: {"min": size, "opt": size, "max": size} for name, size in self.at.items()}

    def __str__(self) -> str:
        return ", ".join([*(f"{name} {size}" for name, size in self.at.items()), f"seed {self.seed}"])


def cases(dims: Ranges, profiles: Sequence[Ranges], samples: int, seed: int) -> list[Case]:
    """The cases of an artifact, the same for the same arguments.

    For [dims] and for each of `profiles`: all at opt, at min, at max, and each alone at its min and at its max with
    the others at opt; then `samples` points drawn within [dims]. Each has values of its own: a model is compared on
    more of them by a larger `samples`, and a size costs no more than one run of the model.
    """
    places = list({tuple(place.items()): place for ranges in (dims, *profiles) for place in _corners(ranges)}.values())
    places += [_point(dims, random.Random(f"{seed} {sample}")) for sample in range(samples)]
    return [Case(place, seed + number) for number, place in enumerate(places)]


def _corners(ranges: Ranges) -> Iterator[dict[str, int]]:
    opt = _all(ranges, "opt")
    yield opt
    yield _all(ranges, "min")
    yield _all(ranges, "max")
    for name, dim in ranges.items():
        for bound in ("min", "max"):
            yield {**opt, name: dim[bound]}


def _all(ranges: Ranges, bound: str) -> dict[str, int]:
    return {name: dim[bound] for name, dim in ranges.items()}


def _point(ranges: Ranges, source: random.Random) -> dict[str, int]:
    # Of the generator's methods only random() promises the same numbers in every version of Python.
    return {name: dim["min"] + int(source.random() * (dim["max"] - dim["min"] + 1)) for name, dim in ranges.items()}
