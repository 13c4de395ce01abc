"""The measurement: contestants opened, warmed up and measured in turns at every point; no peer's fault ends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trtbuild.benching.contestants import Contestant, Entry, why
from trtbuild.benching.memory import DeviceMemory, grown
from trtbuild.benching.points import Point
from trtbuild.benching.rounds import Lap, interleaved, warm_up
from trtbuild.benching.samples import summary
from trtbuild.benching.timers import Timer, timer_for

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Where and for how long: `seconds` per contestant and point, over `rounds` turns; `warmup` seconds at least."""

    points: Sequence[Point]
    seconds: float
    warmup: float
    rounds: int
    batch: str | None = None

    def items(self, point: Point) -> int:
        """How many things one call takes there: the size of the batch, where there is one."""
        return point[self.batch] if self.batch else 1


@dataclass(slots=True)
class _Open:
    entry: Entry
    contestant: Contestant | None = None
    failed: str = ""
    # Device memory that its opening and its first calls at each point so far have taken.
    bytes: int | None = None
    told: dict[str, Any] = field(default_factory=dict)


def measure(
    entries: Sequence[Entry], arguments: Callable[[Point], Arguments], plan: Plan, device: str
) -> list[dict[str, Any]]:
    """[{"at", "items", "rows"}], a row for every entry at every point. Whatever an entry raises is told in its rows."""
    memory, timer = DeviceMemory(device), timer_for(device)
    opened = [_opened(entry, memory) for entry in entries]
    return [_at(point, opened, arguments(point), plan, memory, timer) for point in plan.points]


def _opened(entry: Entry, memory: DeviceMemory) -> _Open:
    found = _Open(entry)
    before = memory.taken()
    try:
        found.contestant = entry.open()
    except Exception as error:
        found.failed = why(error)
    found.bytes = grown(before, memory.taken())
    return found


def _at(
    point: Point, opened: Sequence[_Open], arguments: Arguments, plan: Plan, memory: DeviceMemory, timer: Timer
) -> dict[str, Any]:
    laps: dict[str, Lap] = {}
    failed = {one.entry.name: one.failed for one in opened if one.failed}
    for one in opened:
        if one.contestant is None:
            continue
        lap = _lap(one.contestant, arguments)
        before = memory.taken()
        memory.begin_peak()
        try:
            # The first calls compile kernels, which may take longer than all of a warm-up.
            with lap.within():
                lap.call()
            timer.wait()
            one.told = {"warmup": warm_up(lap, timer, plan.warmup), "peak_bytes": memory.peak()}
            laps[one.entry.name] = lap
        except Exception as error:
            failed[one.entry.name] = why(error)
        growth = grown(before, memory.taken())
        one.bytes = None if one.bytes is None or growth is None else one.bytes + growth
    figures = interleaved(laps, timer, plan.seconds, plan.rounds)
    rows = []
    for one in opened:
        row: dict[str, Any] = {"what": one.entry.what, "cuda_graph": one.entry.cuda_graph}
        row |= {"precision": one.entry.note} if one.entry.note else {}
        samples = figures.get(one.entry.name)
        if isinstance(samples, Exception):
            failed[one.entry.name] = why(samples)
        if one.entry.name in failed or samples is None or isinstance(samples, Exception):
            rows.append({**row, "failed": failed[one.entry.name]})
        else:
            rows.append({**row, **summary(samples, plan.items(point)), **one.told, "device_bytes": one.bytes})
    return {"at": dict(point), "items": plan.items(point), "rows": rows}


def _lap(contestant: Contestant, arguments: Arguments) -> Lap:
    args, kwargs = arguments
    run = contestant.run
    return Lap(lambda: run(*args, **kwargs), contestant.within)


def batch_dim(inputs: Sequence[Mapping[str, Any]], dims: Mapping[str, Any]) -> str | None:
    """The first dim of the recipe, where the first axis of an input has it: calls are then counted in its items."""
    from trtbuild.stages.inputs import tensors

    first = next(iter(dims), None)
    leading = {spec["shape"][0] for group in inputs for spec in tensors(group) if spec["shape"]}
    return first if first in leading else None
