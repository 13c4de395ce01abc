"""Plans remembered: a plan is a function of a recipe, this machine and trtbuild, so it is made once.

What makes it cheap: a run with nothing to do reads a plan as JSON, and imports neither pydantic nor networkx.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from trtbuild.digest import digest_bytes, digest_value
from trtbuild.errors import UsageError, did_you_mean
from trtbuild.files import machine_error
from trtbuild.host import has_gpu, platform
from trtbuild.merge import chosen, merged
from trtbuild.places import recipes_in
from trtbuild.plans import Plan
from trtbuild.store.checked import read_checked, write_checked
from trtbuild.toolchain import toolchain
from trtbuild.workspace import Workspace

_SOURCES = ("planner.py", "merge.py", "buildable.py", "plans.py", "graph.py", "stages/inputs.py")


def recipe_paths(given: Sequence[str]) -> list[Path]:
    """The recipes that were named: files, or all of a folder. UsageError where there is none."""
    found: list[Path] = []
    for name in given:
        path = Path(name)
        if path.is_dir():
            inside = [Path(name, recipe) for recipe in recipes_in(name)]
            if not inside:
                raise UsageError("The folder holds no recipe", [("folder", name)], "Recipes are *.toml files.")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            near = [str(p) for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
            raise UsageError("There is no such recipe", [("missing", name)], did_you_mean(name, near) if near else "")
    return list(dict.fromkeys(found))


def plan_for(
    recipes: Mapping[Path, bytes],
    workspace: Workspace,
    targets: Sequence[str] = (),
    formats: Sequence[str] = (),
    planning: Callable[[], None] = lambda: None,
) -> Plan:
    """The plan of recipes, given with their content. RecipeError names every mistake of a recipe.

    Each recipe's own plan is remembered or made: an edit of one of many costs no more than planning that one.
    `planning` is called when one must be made.
    """
    plans = [_plan_of(path, text, workspace, planning) for path, text in recipes.items()]
    return chosen(plans[0] if len(plans) == 1 else merged(plans), targets, formats)


def _plan_of(path: Path, text: bytes, workspace: Workspace, planning: Callable[[], None]) -> Plan:
    memory = workspace.cache / "plans-v1" / f"{_identity(path, text, workspace)}.json"
    remembered = read_checked(memory)
    if remembered is not None:
        plan = Plan.from_json(remembered)
        if _files_exist(plan, workspace):
            return plan
    planning()
    from trtbuild.planner import named_recipe, plan_from_recipe

    plan = plan_from_recipe(named_recipe(path, text), workspace)
    with contextlib.suppress(OSError):
        write_checked(memory, plan.to_json())
    return plan


def _identity(path: Path, text: bytes, workspace: Workspace) -> str:
    return digest_value(
        {
            "code": _code(),
            # What lies outside the workspace is named by its absolute path, which another clone's plan must not lend.
            "root": str(workspace.root),
            "recipe": [workspace.relative(path.resolve()), digest_bytes(text)],
            "toolchain": toolchain().versions(toolchain().__slots__),
            "host": [platform(), has_gpu()],
        }
    )


@cache
def _code() -> str:
    package = Path(__file__).parent
    files = [*(package / name for name in _SOURCES), *sorted((package / "recipe").glob("*.py"))]
    return digest_value([digest_bytes(file.read_bytes()) for file in files])


def read_recipes(paths: Iterable[Path]) -> dict[Path, bytes]:
    """The content of recipes. MachineError where one cannot be read."""
    texts = {}
    for path in paths:
        try:
            texts[path] = path.read_bytes()
        except OSError as error:
            raise machine_error("read the recipe", path, error) from error
    return texts


def _files_exist(plan: Plan, workspace: Workspace) -> bool:
    """Whether what the recipes name is still there; where not, the plan is made again to say so with file and line."""
    named = [path for step in plan.steps for path in step.files.values()]
    entries = [str(step.settings["entry"]).rpartition(":")[0] for step in plan.steps if "entry" in step.settings]
    return all((workspace.root / path).is_file() for path in [*named, *(e for e in entries if e.endswith(".py"))])
