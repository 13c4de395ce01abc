"""What was measured of one contestant at one point, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Samples:
    """`device_ms`: time of each call as the device took it, calls queued without waiting; `host_ms`: time of each call
    from before it to its result, waited for; `calls` in `busy_s` seconds: what the queued ones say of throughput."""

    device_ms: list[float] = field(default_factory=list)
    host_ms: list[float] = field(default_factory=list)
    calls: int = 0
    busy_s: float = 0.0

    def add(self, other: Samples) -> None:
        """Take over what a later turn measured."""
        self.device_ms += other.device_ms
        self.host_ms += other.host_ms
        self.calls += other.calls
        self.busy_s += other.busy_s


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of all lies below, between neighbours by their distance. ValueError without values."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summary(samples: Samples, items: int) -> dict[str, Any]:
    """The figures of a row; `items` is how many things, images for example, one call takes."""
    return {
        "median_ms": _figure(quantile(samples.device_ms, 0.5)),
        "p90_ms": _figure(quantile(samples.device_ms, 0.9)),
        "p99_ms": _figure(quantile(samples.device_ms, 0.99)),
        "host_median_ms": _figure(quantile(samples.host_ms, 0.5)),
        "host_p99_ms": _figure(quantile(samples.host_ms, 0.99)),
        "throughput_per_s": _figure(samples.calls * items / samples.busy_s),
        "samples": len(samples.device_ms),
    }


def _figure(value: float) -> float:
    """Five digits: more than any clock here can answer for."""
    return float(f"{value:.5g}")
