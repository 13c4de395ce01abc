"""Contestants in turns, so that what drifts, clocks and heat and other work, meets all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from trtbuild.benching.samples import Samples, quantile
from trtbuild.benching.timers import Call, Timer

# Two windows of a warm-up whose medians differ by less are taken for the same.
_STABLE = 0.02
_WINDOWS = 4
_PATIENCE = 5
# Calls at the begin of a turn that are not counted: caches and clocks are as the contestant before left them.
_SETTLING = 3


@dataclass(frozen=True, slots=True)
class Lap:
    """What takes turns: a call, and what must be entered around a turn of it."""

    call: Call
    within: Callable[[], AbstractContextManager[Any]] = nullcontext


def warm_up(lap: Lap, timer: Timer, seconds: float) -> dict[str, Any]:
    """Call for at least so many seconds and until the times no longer change, at most five times as long.

    TensorRT-RTX compiles kernels at the first call of a shape, and may put better ones in their place some calls later.
    """
    medians: list[float] = []
    calls = 0
    with _without_collections(), lap.within():
        began = time.perf_counter()
        while True:
            turn = timer.turn(lap.call, seconds / _WINDOWS)
            calls += turn.calls
            medians.append(quantile(turn.device_ms, 0.5))
            spent = time.perf_counter() - began
            stable = len(medians) > 1 and abs(medians[-1] - medians[-2]) <= _STABLE * medians[-1]
            if (spent >= seconds and stable) or spent >= _PATIENCE * seconds:
                return {"calls": calls, "seconds": round(spent, 3), "stable": stable}


def interleaved(laps: Mapping[str, Lap], timer: Timer, seconds: float, rounds: int) -> dict[str, Samples | Exception]:
    """Measure each lap for so many seconds, in turns. Every second round goes backwards, so that none is always the
    one after the slowest. What raises an error drops out and has the error in place of its samples."""
    found: dict[str, Samples | Exception] = {name: Samples() for name in laps}
    with _without_collections():
        for round_ in range(rounds):
            order = list(laps)[:: 1 if round_ % 2 == 0 else -1]
            for name in order:
                samples = found[name]
                if isinstance(samples, Exception):
                    continue
                try:
                    samples.add(_turn(laps[name], timer, seconds / rounds))
                except Exception as error:
                    found[name] = error
    return found


def _turn(lap: Lap, timer: Timer, seconds: float) -> Samples:
    with lap.within():
        for _ in range(_SETTLING):
            lap.call()
        timer.wait()
        return timer.turn(lap.call, seconds)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Python's garbage collector runs before, not between: it would hit whoever happens to be on."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
