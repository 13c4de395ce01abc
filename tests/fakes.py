"""Fakes for the engine's own logic: plans of null stages, an executor that can be told to fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trtbuild.digest import Json
from trtbuild.events import Event, StageEnded, StageStarted
from trtbuild.files import read_json
from trtbuild.plans import Cell, Plan, Step
from trtbuild.worker.job import perform
from trtbuild.worker.outcome import Outcome


def null_step(
    id: str, needs: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None, **settings: Json
) -> Step:
    """A step of the null kind."""
    return Step(id, "null", settings, needs or {}, files or {})


def null_plan(*steps: Step) -> Plan:
    """A plan of steps, the last of which makes an artifact."""
    return Plan(tuple(steps), (Cell("r", "t", "fp32", "null", "r/t/fp32/null.json", steps[-1].id),))


class Recorder:
    """Listens, and remembers what started and how each ended, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def started(self) -> list[str]:
        return [e.step for e in self.events if isinstance(e, StageStarted)]

    def ended(self) -> dict[str, str]:
        return {e.step: str(e.status) for e in self.events if isinstance(e, StageEnded)}


class FakeExecutor:
    """Runs null stages when asked for the next that is done; `fate` may crash or fail a step, or act while it runs."""

    def __init__(self, fate: Callable[[str], dict[str, Any] | int | None] = lambda step: None) -> None:
        self.fate = fate
        self.waiting: list[Path] = []
        self.most_at_once = 0
        self.closed = False

    def __call__(self, layers: list[Any], log: Path) -> FakeExecutor:
        return self

    def submit(self, layer: str, folder: Path) -> None:
        self.waiting.append(folder)
        self.most_at_once = max(self.most_at_once, len(self.waiting))

    def next_done(self, timeout: float | None) -> list[Outcome]:
        folder = self.waiting.pop(0)
        (folder / "out").mkdir()
        result = perform(folder, read_json(folder / "job.json"))
        fate = self.fate(folder.name.replace("~", "/"))
        if isinstance(fate, int):
            shutil.rmtree(folder / "out")
            return [Outcome(folder, fate, 0, None)]
        return [Outcome(folder, 0, 0, fate or result)]

    def close(self) -> None:
        self.closed = True
