"""What happened in a run, as frozen records: the build loop emits them, progress and results read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a stage ended. The words are those of `--json`."""

    RAN = "ran"
    CACHED = "cached"
    FAILED = "failed"
    SKIPPED = "skipped"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The plan is known. `steps` are ids in an order in which they may run."""

    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage was handed to a worker; `reason` says why it could not come from the cache."""

    step: str
    reason: str
    expected_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StageEnded:
    """A stage is over. `note` says what is worth knowing: a cut-off, the first line of an error."""

    step: str
    status: Status
    seconds: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know that stops nothing: a damaged blob, a disk nearly full."""

    text: str


Event = RunStarted | StageStarted | StageEnded | Warned
Listener = Callable[[Event], None]
