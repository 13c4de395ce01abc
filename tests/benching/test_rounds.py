"""Contestants take turns, and one that fails does not end them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, groupby, repeat

from trtbuild.benching.rounds import Lap, interleaved, warm_up
from trtbuild.benching.samples import Samples
from trtbuild.benching.timers import CpuTimer


def test_turns_go_forth_and_back() -> None:
    calls: list[str] = []
    laps = {name: Lap(lambda name=name: calls.append(name)) for name in "abc"}  # type: ignore[misc]
    found = interleaved(laps, CpuTimer(), seconds=0.003, rounds=3)
    assert [name for name, _ in groupby(calls)] == list("abcbabc")
    for samples in found.values():
        assert isinstance(samples, Samples)
        assert samples.calls == len(samples.device_ms) == len(samples.host_ms) >= 3


def test_what_is_entered_around_a_turn_is_left_again() -> None:
    inside: list[bool] = [False]

    @contextmanager
    def within() -> Iterator[None]:
        inside[0] = True
        yield
        inside[0] = False

    seen: dict[str, set[bool]] = {"with": set(), "without": set()}
    laps = {
        "with": Lap(lambda: seen["with"].add(inside[0]), within),
        "without": Lap(lambda: seen["without"].add(inside[0])),
    }
    interleaved(laps, CpuTimer(), seconds=0.002, rounds=4)
    assert seen == {"with": {True}, "without": {False}}


def test_one_that_fails_drops_out_and_the_others_go_on() -> None:
    calls = {"good": 0, "bad": 0}

    def good() -> None:
        calls["good"] += 1

    def bad() -> None:
        calls["bad"] += 1
        if calls["bad"] == 10:
            raise RuntimeError("no more")

    found = interleaved({"bad": Lap(bad), "good": Lap(good)}, CpuTimer(), seconds=0.01, rounds=5)
    assert isinstance(found["bad"], RuntimeError) and calls["bad"] == 10
    assert isinstance(found["good"], Samples) and found["good"].calls > 5


def test_garbage_is_not_collected_between() -> None:
    seen: list[bool] = []
    interleaved({"a": Lap(lambda: seen.append(gc.isenabled()))}, CpuTimer(), seconds=0.001, rounds=2)
    assert not any(seen) and gc.isenabled()


def test_a_warm_up_waits_until_times_are_stable() -> None:
    class Clock:
        """Gives times that shrink, then stay."""

        def __init__(self) -> None:
            self.times = chain([8.0, 4.0, 2.0, 1.0], repeat(1.0))

        def wait(self) -> None:
            pass

        def turn(self, call: object, seconds: float) -> Samples:
            return Samples(device_ms=[next(self.times)], host_ms=[1.0], calls=1, busy_s=1.0)

    told = warm_up(Lap(lambda: None), Clock(), seconds=0.0)
    assert not told["stable"] and told["calls"] == 1  # its patience is five times the seconds asked
    told = warm_up(Lap(lambda: None), Clock(), seconds=0.1)
    assert told["stable"] and told["calls"] >= 5


def test_the_timer_of_a_cpu() -> None:
    calls: list[int] = []
    samples = CpuTimer().turn(lambda: calls.append(1), 0.0)
    assert samples.calls == len(calls) == 1
    assert samples.device_ms == samples.host_ms and samples.busy_s > 0
