"""The sizes at which an artifact is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from trtbuild.errors import UsageError, did_you_mean

Dims = Mapping[str, Mapping[str, int]]
Point = dict[str, int]


def default_points(dims: Dims) -> list[Point]:
    """min, opt and max of every dim, and the powers of two of the first dim's range; the smallest first.

    Along the first dim, most often the batch, the others stand at their opt, so that these points are one line.
    """
    if not dims:
        return [{}]
    first, *others = dims
    middle = {name: dims[name]["opt"] for name in others}
    sizes = {dims[first][bound] for bound in ("min", "opt", "max")} | set(_powers(dims[first]))
    points: list[Point] = [{first: size, **middle} for size in sizes]
    points += [{name: dim[bound] for name, dim in dims.items()} for bound in ("min", "max")]
    unique = {tuple(point.items()): point for point in points}.values()
    return sorted(unique, key=lambda point: (prod(point.values()), tuple(point.values())))


def _powers(dim: Mapping[str, int]) -> Iterable[int]:
    power = 1
    while power <= dim["max"]:
        if power >= dim["min"]:
            yield power
        power *= 2


def checked_points(points: Iterable[Mapping[str, int]], dims: Dims) -> list[Point]:
    """The points with every dim, those that are not named at their opt. UsageError where one lies beyond its range."""
    checked = []
    for point in points:
        for name, size in point.items():
            if name not in dims:
                raise UsageError(f"The model has no dim `{name}`", [], did_you_mean(name, dims))
            if not dims[name]["min"] <= size <= dims[name]["max"]:
                raise UsageError(
                    f"The dim `{name}` cannot be {size}",
                    [("takes", f"{dims[name]['min']}..{dims[name]['max']}")],
                    "The artifact was built for the range of the recipe's [dims].",
                )
        checked.append({name: point.get(name, dim["opt"]) for name, dim in dims.items()})
    return checked
