"""How a run ended, as data: its stages, its artifacts, what was left out, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trtbuild.errors import Exit, TrtbuildError
from trtbuild.events import Status
from trtbuild.plans import Cell
from trtbuild.publish import Artifact

if TYPE_CHECKING:
    from trtbuild.reproduce import Check


class StageResult(NamedTuple):
    """How one stage ended. `reason` says why it ran, or why not."""

    id: str
    kind: str
    key: str
    status: Status
    seconds: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(frozen=True, slots=True)
class BuildResult:
    """How a run ended: its stages, its artifacts, the cells left out, the errors; how a second build compared."""

    stages: list[StageResult]
    artifacts: list[Artifact]
    left_out: list[Cell]
    errors: list[TrtbuildError] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def exit_code(self) -> Exit:
        return max((error.exit_code for error in self.errors), default=Exit.DONE)

    def counts(self) -> dict[str, int]:
        """How many stages ended in which way."""
        return Counter(str(stage.status) for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        return {
            "stages": [stage.to_json() for stage in self.stages],
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
            "left_out": [{"cell": cell.name, "reason": cell.reason, "hint": cell.hint} for cell in self.left_out],
            "errors": [error.as_json() for error in self.errors],
            **({"rebuild_check": [check.to_json() for check in self.checks]} if self.checks else {}),
        }


def settled_result(lines: Sequence[Mapping[str, Any]]) -> BuildResult:
    """The result of recipes that have nothing to do."""
    stages: dict[str, StageResult] = {}
    for id, kind, key, *pending in (stage for line in lines for stage in line["stages"]):
        # What several recipes share goes by the name of the first.
        status, reason = (Status.PENDING, pending[0]) if pending else (Status.CACHED, "")
        stages.setdefault(key, StageResult(id, kind, key, status, 0.0, reason))
    artifacts = [Artifact(**found) for line in lines for found in line["artifacts"]]
    return BuildResult(list(stages.values()), artifacts, [Cell(*cell) for line in lines for cell in line["left_out"]])


def joined(settled: BuildResult, built: BuildResult, paths: Sequence[Path]) -> BuildResult:
    """Both parts of a run in the order of the recipes, whichever of them had nothing to do."""
    place = {path.stem: number for number, path in enumerate(paths)}
    stages = sorted([*settled.stages, *built.stages], key=lambda stage: place[stage.id.partition("/")[0]])
    # What several recipes share goes by the name of the first.
    distinct = {stage.key or stage.id: stage for stage in reversed(stages)}
    return replace(
        built,
        stages=[stage for stage in stages if distinct[stage.key or stage.id] is stage],
        artifacts=sorted([*settled.artifacts, *built.artifacts], key=lambda artifact: place[artifact.recipe]),
        left_out=sorted([*settled.left_out, *built.left_out], key=lambda cell: place[cell.recipe]),
    )
