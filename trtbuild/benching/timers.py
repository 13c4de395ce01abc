"""One turn of a contestant: how its calls are timed on a GPU and on a CPU.

On a GPU two things are asked in turns: CUDA events around calls that are queued without waiting tell what the device
takes and what it can do in a second; the host's clock around single calls, each waited for, tells how long a caller
waits.
Source: https://docs.nvidia.com/cuda/cuda-c-best-practices-guide/ (timing with events).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from trtbuild.benching.samples import Samples

Call = Callable[[], Any]

# Calls queued before the host waits. More would fill the driver's queue, and measure waiting for room in it.
_BURST = 20
_BURST_SECONDS = 0.02


class Timer(Protocol):
    """How calls are timed."""

    def wait(self) -> None:
        """Wait until all that was called is done."""

    def turn(self, call: Call, seconds: float) -> Samples:
        """Call for about so many seconds, at least once."""


class CpuTimer:
    """A call is done when it returns, so the device's time is the host's."""

    def wait(self) -> None:
        pass

    def turn(self, call: Call, seconds: float) -> Samples:
        samples = Samples()
        clock = time.perf_counter_ns
        began = clock()
        end = began + int(seconds * 1e9)
        while True:
            before = clock()
            call()
            after = clock()
            samples.device_ms.append((after - before) / 1e6)
            if after >= end:
                break
        samples.host_ms = list(samples.device_ms)
        samples.calls = len(samples.device_ms)
        samples.busy_s = sum(samples.device_ms) / 1e3
        return samples


class CudaTimer:
    """CUDA events on the current stream."""

    def __init__(self) -> None:
        import torch

        self._cuda: Any = torch.cuda

    def wait(self) -> None:
        self._cuda.synchronize()

    def turn(self, call: Call, seconds: float) -> Samples:
        samples = Samples()
        events = [(self._event(), self._event()) for _ in range(_BURST)]
        one = self._single(call, samples)
        burst = max(1, min(_BURST, round(_BURST_SECONDS / max(one, 1e-6))))
        end = time.perf_counter() + seconds - one
        while True:
            self._queued(call, events[:burst], samples)
            # As long as the burst took is spent on single calls: both kinds of figures rest on as much time.
            until = time.perf_counter() + burst * one
            while time.perf_counter() < until:
                self._single(call, samples)
            if time.perf_counter() >= end:
                return samples

    def _event(self) -> Any:
        return self._cuda.Event(enable_timing=True)

    def _single(self, call: Call, samples: Samples) -> float:
        before = time.perf_counter_ns()
        call()
        self.wait()
        took = (time.perf_counter_ns() - before) / 1e6
        samples.host_ms.append(took)
        return took / 1e3

    def _queued(self, call: Call, events: list[tuple[Any, Any]], samples: Samples) -> None:
        before = time.perf_counter()
        for start, stop in events:
            start.record()
            call()
            stop.record()
        self.wait()
        samples.busy_s += time.perf_counter() - before
        samples.calls += len(events)
        samples.device_ms += [start.elapsed_time(stop) for start, stop in events]


def timer_for(device: str) -> Timer:
    """The timer of a device, "cuda" or "cpu"."""
    return CudaTimer() if device == "cuda" else CpuTimer()
