"""How far an output may be from the source model's, where the recipe does not say it.

An element passes where |found - reference| <= atol + rtol * |reference|, as numpy and torch have it.

atol is rtol times the root mean square of the reference output. Each element is the sum of many products, and what
those are rounded by depends on their own size, not on what is left when they cancel: an element near zero is as far
off as its neighbours. A tolerance that shrinks with the element would refuse the best engine there is, a fixed one
would mean nothing for outputs of another scale.

rtol is the unit roundoff of the precision times a growth of 32 over the layers:

    tf32, fp16   2^-11 * 32 = 2^-6   11 bits of significand. On an H200 the largest error of an element was 1.8e-3 of
                                     the root mean square in float32 with TF32 and 6.4e-3 in fp16 (ResNet-18), at most
                                     6e-3 and 3.4e-2 inside of the model, where the largest values are many times the
                                     mean square; of the largest value of small models' outputs 6e-4 and 2.5e-3.
    bf16         2^-8 * 32 = 2^-3    8 bits. On an H200 1.4e-2 of the largest value.
    fp32         1e-4                2^-24 itself is beside the point: sums are taken in another order, convolutions by
                                     other algorithms (Winograd), which differ in 1e-6 to 1e-5.
    fp32 by TensorRT-RTX  2^-6       On an H200 engines built with the TF32 flag cleared show errors of the size of
                                     TF32 all the same, so only that much can be promised.

Mixed precision is as far off as the lower of its two. The measurements: tests/results/h200-*.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_GROWTH = 32
_ELEVEN_BITS, _EIGHT_BITS = 2.0**-11 * _GROWTH, 2.0**-8 * _GROWTH
_RTOL = {
    "fp32": 1e-4,
    "tf32": _ELEVEN_BITS,
    "fp16": _ELEVEN_BITS,
    "bf16": _EIGHT_BITS,
    "fp16-mixed": _ELEVEN_BITS,
    "bf16-mixed": _EIGHT_BITS,
}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What an output may be off by; `atol` None is rtol times the root mean square of the reference.

    `mismatch` is the share of elements that may be beyond it, 0 to 1. `given` tells a tolerance that the recipe
    gives this output or all of them from a default: whole numbers and bools are held to equality by default.
    """

    rtol: float
    atol: float | None = None
    mismatch: float = 0.0
    given: bool = False


def default_rtol(precision: str, runtime: str, device: str) -> float:
    """The relative tolerance of a precision: its unit roundoff times a growth over the layers."""
    if precision == "fp32" and runtime == "tensorrt-rtx" and device == "cuda":
        return _RTOL["tf32"]
    return _RTOL[precision]


def tolerance_of(name: str, settings: Mapping[str, Any]) -> Tolerance:
    """The tolerance of an output: what [verify.outputs.NAME] gives, then [verify], then the default.

    `settings` are those of a verify step.
    """
    verify = settings["verify"]
    given = {**_numbers(verify), **_numbers(verify.get("outputs", {}).get(name, {}))}
    return Tolerance(
        rtol=given.get("rtol", default_rtol(settings["precision"], settings["runtime"], settings["device"])),
        atol=given.get("atol"),
        mismatch=given.get("mismatch", 0.0),
        given=bool(_numbers(verify.get("outputs", {}).get(name, {})).keys() & {"rtol", "atol"}),
    )


def _numbers(given: Mapping[str, Any]) -> dict[str, float]:
    return {name: given[name] for name in ("rtol", "atol", "mismatch") if given.get(name) is not None}
