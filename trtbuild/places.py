"""Where things lie, as plain texts: the workspace of a recipe, its store and `dist/`, the recipes of a folder.

`workspace` says the same in paths; a run with nothing to do needs no more than this.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKS = (".git", "pyproject.toml")


def root_of(folder: str) -> str:
    """The workspace of a recipe that lies in a folder, whose path is absolute and without links."""
    place = folder
    while True:
        if any(os.path.exists(os.path.join(place, mark)) for mark in _MARKS):
            return place
        above = os.path.dirname(place)
        if above == place:
            return folder
        place = above


class Place:
    """Where a run reads and writes: absolute paths of the workspace, the store and dist/."""

    __slots__ = ("cache", "dist", "root")

    def __init__(self, root: str, cache: str | None, dist: str | None) -> None:
        self.root = root
        self.cache = os.path.abspath(cache or os.environ.get("TRTBUILD_CACHE") or os.path.join(root, "cache"))
        self.dist = os.path.abspath(dist or os.path.join(root, "dist"))

    def bases(self) -> dict[str, str]:
        """What paths in a line are relative to, by the letter that stands for it."""
        return {"w": f"{self.root}/", "d": f"{self.dist}/", "": ""}


def recipes_in(folder: str) -> list[str]:
    """Names of the recipes in a folder."""
    return sorted(name for name in os.listdir(folder) if name.endswith(".toml") and name != "pyproject.toml")


def plain_recipes(given: Sequence[str]) -> list[str] | None:
    """Absolute paths of the recipes that were named, or None where anything is unusual enough to be looked at."""
    found: list[str] = []
    try:
        for name in given:
            path = os.path.realpath(name)
            if os.path.isdir(path):
                found += [f"{path}/{inside}" for inside in recipes_in(path)]
            else:
                found.append(path)
    except OSError:
        return None
    names = {os.path.basename(path) for path in found}
    roots = {root_of(folder) for folder in {os.path.dirname(path) for path in found}}
    # Unusual: none or the same twice, two of one name, several workspaces.
    return found if len(names) == len(found) > 0 and len(roots) == 1 else None
