"""What the commands do, as functions: `run`, `plan`, `explain`, `verify`, `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtbuild.outside import bench, verify
from trtbuild.preview import Planned, explain, preview
from trtbuild.results import BuildResult, StageResult
from trtbuild.running import run
from trtbuild.session import PathLike, Session, open_session

if TYPE_CHECKING:
    from trtbuild.explaining import Explanation

__all__ = [
    "BuildResult",
    "Planned",
    "Session",
    "StageResult",
    "bench",
    "explain",
    "explain_recipe",
    "open_session",
    "plan_recipes",
    "preview",
    "run",
    "verify",
]


def plan_recipes(recipes: Sequence[PathLike] | PathLike, **where: Any) -> list[Planned]:
    """What `run` with the same arguments would do (see `open_session`); runs nothing."""
    return preview(open_session(recipes, **where))


def explain_recipe(recipe: PathLike, stage: str | None = None, **where: Any) -> list[Explanation]:
    """Why each stage of a recipe, or the one named, would run next or ran last."""
    return explain(open_session(recipe, **where), stage)
