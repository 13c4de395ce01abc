"""A plan with all that is needed to decide and run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtbuild.memo import plan_for, read_recipes, recipe_paths
from trtbuild.merge import check_names
from trtbuild.plans import Plan
from trtbuild.resolve import Resolver
from trtbuild.sandbox import Level, level_of
from trtbuild.signs import Digests
from trtbuild.store.local import LocalStore
from trtbuild.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    pass

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Session:
    """A plan with all that is needed to decide and run it."""

    workspace: Workspace
    store: LocalStore
    digests: Digests
    recipes: Mapping[Path, bytes]
    plan: Plan
    sandbox: Level

    @property
    def resolver(self) -> Resolver:
        return Resolver(self.store, self.workspace, self.digests, self.sandbox)


def open_session(
    recipes: Sequence[PathLike] | PathLike,
    *,
    targets: Sequence[str] = (),
    formats: Sequence[str] = (),
    cache: PathLike | None = None,
    dist: PathLike | None = None,
    sandbox: str | None = None,
) -> Session:
    """Read recipes, open the store, make the plan. Raises what is wrong with any of them."""
    paths = paths_of(recipes)
    workspace = find_workspace(paths, Path(cache) if cache else None, Path(dist) if dist else None)
    return session_of(paths, workspace, targets, formats, level_of(sandbox))


def paths_of(recipes: Sequence[PathLike] | PathLike) -> list[Path]:
    given = [recipes] if isinstance(recipes, (str, os.PathLike)) else list(recipes)
    paths = recipe_paths([os.fspath(recipe) for recipe in given])
    check_names(paths)
    return paths


def session_of(
    paths: Sequence[Path],
    workspace: Workspace,
    targets: Sequence[str],
    formats: Sequence[str],
    sandbox: Level,
    planning: Callable[[LocalStore], None] = lambda store: None,
) -> Session:
    """`planning` is told when a plan must be made, which takes a while."""
    store = LocalStore(workspace.cache)
    digests = Digests(workspace.cache / "stat-v1.json")
    texts = read_recipes(paths)
    plan = plan_for(texts, workspace, targets, formats, lambda: planning(store))
    return Session(workspace, store, digests, texts, plan, sandbox)
