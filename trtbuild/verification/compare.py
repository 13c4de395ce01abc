"""One output of an artifact against the source model's, in numbers.

All is computed in float64 and a part of the elements at a time, so that comparing takes little memory beside the two
tensors themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trtbuild.verification.tolerances import Tolerance

_CHUNK = 1 << 21

# A value this large, and so much larger than all others, is a mask and no result.
_MASK = 1e4
_MASK_BESIDE = 100.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far an output is from the reference's.

    max_abs, max_rel (over elements whose reference is not zero), mean_abs and cosine are over the elements where both
    are finite, and None where there are none. `mismatched` is the share of elements that do not match, `nan` and `inf`
    count those of the output that cannot match: every NaN, and every infinity that the reference has not in the same
    place. `of_tolerance` is the largest error as a multiple of its tolerance; beyond 1 an element does not match.
    `scale` is the root mean square of the reference; where it is 0 little is shown.
    """

    max_abs: float | None
    max_rel: float | None
    mean_abs: float | None
    cosine: float | None
    mismatched: float
    nan: int
    inf: int
    rtol: float
    atol: float
    of_tolerance: float
    scale: float
    reference_nan: int
    passed: bool


def compare(found: Any, reference: Any, tolerance: Tolerance) -> Comparison:
    """Compare two tensors of one shape, on one device.

    NaN never passes, even where the reference has it too: then nothing is proven. An infinity passes where the
    reference has the same one, as scores masked with -inf have. Whole numbers and bools must be equal, unless the
    recipe gives this very output a tolerance. Values of an exact type are compared as they are, beyond 2^53 too.
    """
    exact = not found.is_floating_point() and not found.is_complex() and not tolerance.given
    found, reference = _flat(found), _flat(reference)
    rtol = 0.0 if exact else tolerance.rtol
    scale = scale_of(reference)
    atol = 0.0 if exact else rtol * scale if tolerance.atol is None else tolerance.atol
    return _Sums(rtol, atol, exact).over(found, reference).result(tolerance.mismatch, scale)


def scale_of(reference: Any) -> float:
    """The root mean square of a tensor's finite elements, without masks.

    A value of at least 1e4 that is the largest, to 0.1 %, and 100 times the mean square of all others stands for "not
    this one" (-1e9, the least float32, ...). With it in the mean every error elsewhere would pass.
    """
    flat = _flat(reference)
    largest = _largest(flat)
    if largest == 0.0:
        return 0.0
    whole = _root_mean_square(flat, largest, math.inf)
    if largest < _MASK:
        return whole
    rest = _root_mean_square(flat, largest, 0.999 * largest)
    return rest if 0.0 < rest * _MASK_BESIDE < largest else whole


class _Sums:
    """What is counted and summed over the parts."""

    def __init__(self, rtol: float, atol: float, exact: bool) -> None:
        self.rtol, self.atol, self.exact = rtol, atol, exact
        self.count = self.finite = self.beyond = self.nan = self.inf = self.reference_nan = 0
        self.max_abs = self.max_rel = self.sum_abs = self.of_tolerance = 0.0
        self.dot = self.found_squares = self.reference_squares = 0.0
        self.largest = 0.0

    def over(self, found: Any, reference: Any) -> _Sums:
        # Squares of values scaled to at most 1 cannot overflow.
        self.largest = max(_largest(found), _largest(reference))
        for one, other in zip(_chunks(found), _chunks(reference), strict=True):
            self._add(one, other)
        return self

    def _add(self, found: Any, reference: Any) -> None:
        import torch

        exactly_equal = found == reference
        found, reference = found.double(), reference.double()
        both = found.isfinite() & reference.isfinite()
        self.count += found.numel()
        self.finite += int(both.sum())
        self.nan += int(found.isnan().sum())
        self.reference_nan += int(reference.isnan().sum())
        self.inf += int((found.isinf() & (found != reference)).sum())
        found, reference = found[both], reference[both]
        error = (found - reference).abs()
        allowed = self.atol + self.rtol * reference.abs()
        beyond = ~exactly_equal[both] if self.exact else ~(error <= allowed)
        same_infinity = int((exactly_equal & ~both).sum())
        self.beyond += int(beyond.sum()) + both.numel() - int(both.sum()) - same_infinity
        if not error.numel():
            return
        self.max_abs = max(self.max_abs, float(error.max()))
        self.sum_abs += float(error.sum())
        self.of_tolerance = max(self.of_tolerance, _ratio(error, allowed))
        if (nonzero := reference != 0).any():
            self.max_rel = max(self.max_rel, float((error[nonzero] / reference[nonzero].abs()).max()))
        if self.largest:
            one, other = found / self.largest, reference / self.largest
            self.dot += float(torch.dot(one, other))
            self.found_squares += float(torch.dot(one, one))
            self.reference_squares += float(torch.dot(other, other))

    def result(self, mismatch: float, scale: float) -> Comparison:
        bad = self.nan + self.inf + self.reference_nan
        share = self.beyond / self.count if self.count else 0.0
        known = self.finite > 0
        return Comparison(
            max_abs=self.max_abs if known else None,
            max_rel=self.max_rel if known else None,
            mean_abs=self.sum_abs / self.finite if known else None,
            cosine=self._cosine() if known else None,
            mismatched=share,
            nan=self.nan,
            inf=self.inf,
            rtol=self.rtol,
            atol=self.atol,
            of_tolerance=math.inf if bad else self.of_tolerance,
            scale=scale,
            reference_nan=self.reference_nan,
            passed=not bad and share <= mismatch,
        )

    def _cosine(self) -> float:
        """The cosine of the angle between the two; 1 where both are zero, 0 where only one is."""
        size = math.sqrt(self.found_squares) * math.sqrt(self.reference_squares)
        if size == 0.0:
            return 1.0 if self.found_squares == self.reference_squares else 0.0
        return max(-1.0, min(1.0, self.dot / size))


def _ratio(error: Any, allowed: Any) -> float:
    """The largest error over its tolerance; an error where none is allowed is infinitely beyond."""
    import torch

    ratio = torch.where(error > 0, error / allowed, torch.zeros_like(error))
    return float(ratio.max())


def _flat(tensor: Any) -> Any:
    import torch

    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).detach().reshape(-1)


def _chunks(flat: Any) -> Iterator[Any]:
    # split() gives one empty part of an empty tensor.
    return iter(flat.split(_CHUNK))


def _largest(flat: Any) -> float:
    """The largest finite magnitude, 0 where there is none."""
    largest = 0.0
    for part in _chunks(flat):
        values = part.double().abs()
        values = values[values.isfinite()]
        if values.numel():
            largest = max(largest, float(values.max()))
    return largest


def _root_mean_square(flat: Any, largest: float, below: float) -> float:
    squares, count = 0.0, 0
    for part in _chunks(flat):
        values = part.double().abs()
        values = values[values.isfinite() & (values < below)]
        squares += float((values / largest).square().sum())
        count += values.numel()
    return largest * math.sqrt(squares / count) if count else 0.0
