"""Plans of single recipes into one: steps that come out the same exist once, whatever recipe asked for them.

And the part of the matrix that a run was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from trtbuild.digest import canonical
from trtbuild.errors import UsageError, did_you_mean
from trtbuild.plans import Cell, Plan, Step

FILES = {
    "engine": "model.engine",
    "exported_program": "model.pt2",
    "torchscript": "model.ts",
    "aot_inductor": "model.aoti.pt2",
    "onnx": "model.onnx",
}


def merged(plans: Sequence[Plan]) -> Plan:
    """One plan of several, in their order: a step that is in more than one keeps its first id, the rest are aliases."""
    by_content: dict[str, Step] = {}
    named: dict[str, str] = {}
    cells: list[Cell] = []
    for plan in plans:
        for step in plan.steps:
            step = replace(step, needs={slot: named[need] for slot, need in step.needs.items()})
            content = canonical(
                {"kind": step.kind, "settings": step.settings, "needs": dict(step.needs), "files": dict(step.files)}
            )
            known = by_content.get(content)
            if known is None:
                by_content[content] = step
                named[step.id] = step.id
                continue
            named[step.id] = known.id
            more = tuple(id for id in (step.id, *step.aliases) if id != known.id and id not in known.aliases)
            by_content[content] = replace(known, aliases=(*known.aliases, *more))
        cells += [
            replace(cell, step=named.get(cell.step, ""), verify=named.get(cell.verify, "")) for cell in plan.cells
        ]
    return Plan(tuple(by_content.values()), tuple(cells))


def chosen(plan: Plan, targets: Sequence[str], formats: Sequence[str]) -> Plan:
    """The part of a plan that was asked for; empty means all. UsageError where there is no such part.

    Planned whole and then cut: a step has one id however little of the matrix is asked for.
    """
    known = dict.fromkeys(cell.target for cell in plan.cells)
    for wanted in targets:
        if wanted not in known:
            facts = [("targets", ", ".join(sorted(known)))]
            raise UsageError(f"No recipe has a target `{wanted}`", facts, did_you_mean(wanted, known))
    for wanted in formats:
        if wanted not in FILES:
            facts = [("formats", ", ".join(FILES))]
            raise UsageError(f"There is no format `{wanted}`", facts, did_you_mean(wanted, FILES))
    if not targets and not formats:
        return plan
    cells = [
        cell
        for cell in plan.cells
        if (not targets or cell.target in targets) and (not formats or cell.format in formats)
    ]
    if not cells:
        asked = [f"{cell.recipe}/{cell.target}: {cell.format}" for cell in plan.cells]
        raise UsageError(
            "Nothing in the recipes is of the target and format asked for",
            [("in the recipes", "\n".join(dict.fromkeys(asked)))],
            "--target and --format choose among what the recipes ask for; add the format to `formats` of a target.",
        )
    return plan.only(cells)


def check_names(recipes: Iterable[Path]) -> None:
    """UsageError where two recipes have one name, since `dist/` knows them by it."""
    seen: dict[str, Path] = {}
    for path in recipes:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise UsageError(
                f"Two recipes are called `{path.stem}`",
                [("one", str(other)), ("other", str(path))],
                "Their artifacts would lie in one folder of dist/: rename one.",
            )
