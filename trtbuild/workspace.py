"""Where things lie: the workspace of a recipe, its store and its `dist/`.

The workspace is the nearest folder at or above the recipe that holds `.git` or `pyproject.toml`, else the recipe's
own folder. It does not depend on the current folder, so a recipe has one store however it is called. Paths in keys
are relative to it: two clones have the same keys.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trtbuild.errors import UsageError
from trtbuild.places import Place, root_of


@dataclass(frozen=True, slots=True)
class Workspace:
    """Absolute paths of one workspace."""

    root: Path
    cache: Path
    dist: Path

    def relative(self, path: Path) -> str:
        """A path as keys write it: relative to the workspace where it lies inside, else absolute."""
        absolute = Path(os.path.normpath(self.root / path))
        return absolute.relative_to(self.root).as_posix() if absolute.is_relative_to(self.root) else absolute.as_posix()


def find_workspace(recipes: Sequence[Path], cache: Path | None = None, dist: Path | None = None) -> Workspace:
    """The workspace of the recipes, which must share one."""
    roots = {root_of(str(recipe.resolve().parent)): recipe for recipe in recipes}
    if len(roots) > 1:
        raise UsageError(
            "The recipes lie in different workspaces",
            [(str(recipe), f"workspace {root}") for root, recipe in roots.items()],
            "Run them one after the other, or move them under one folder with a pyproject.toml.",
        )
    root = next(iter(roots), root_of(os.path.realpath(".")))
    place = Place(root, os.fspath(cache) if cache else None, os.fspath(dist) if dist else None)
    return Workspace(root=Path(place.root), cache=Path(place.cache), dist=Path(place.dist))
