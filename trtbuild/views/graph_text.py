"""A plan as a tree of plain ASCII: each step under the first of its needs, told once and referred to after.

resnet/trace/fp32 (cached)
|- resnet/compile/linux/fp32 (run)
|  |  also resnet/compile/windows/fp32
|  `- resnet/export/linux/fp32/engine (unknown)
|        => resnet/linux/fp32/model.engine
`- resnet/onnx/fp32 (cached)
      => resnet/linux/fp32/model.onnx
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from trtbuild.plans import Cell, Plan, Step
from trtbuild.views.drawing import summary_of

WIDTH = 80


def text_from_plan(plan: Plan, status: Mapping[str, str]) -> str:
    """The tree, the artifacts that cannot be built here, and a line that sums up."""
    blocks = ["\n".join(_tree(plan, status))] if plan.steps else []
    left_out = [line for cell in plan.cells if cell.reason for line in _left_out(cell)]
    if left_out:
        blocks.append("\n".join(["cannot be built here:", *left_out]))
    return "\n\n".join([*blocks, summary_of(plan)])


def _tree(plan: Plan, status: Mapping[str, str]) -> Iterator[str]:
    users: dict[str, list[Step]] = {step.id: [] for step in plan.steps}
    for step in plan.steps:
        for need in dict.fromkeys(step.needs.values()):
            users[need].append(step)
    artifacts: dict[str, list[Cell]] = {}
    for cell in plan.buildable():
        artifacts.setdefault(cell.step, []).append(cell)
    told: set[str] = set()
    # A stack instead of recursion: a plan may be deeper than Python allows. Of a step: what its line begins with,
    # what those under it begin with, and the step it stands under.
    waiting = [(step, "", "", "") for step in reversed(plan.steps) if not step.needs]
    while waiting:
        step, lead, indent, above = waiting.pop()
        if step.id in told:
            yield f"{lead}{step.id} (see above)"
            continue
        told.add(step.id)
        below = users[step.id]
        yield f"{lead}{step.id}" + (f" ({status[step.id]})" if status.get(step.id) else "")
        beside = f"{indent}{'|' if below else ' '}  "
        yield from (f"{beside}also {alias}" for alias in step.aliases)
        yield from (f"{beside}needs {need} too" for need in sorted({*step.needs.values()} - {above}))
        yield from (f"{beside}=> {cell.path}" for cell in artifacts.get(step.id, ()))
        for user in reversed(below):
            branch, stem = ("`- ", "   ") if user is below[-1] else ("|- ", "|  ")
            waiting.append((user, indent + branch, indent + stem, step.id))


def _left_out(cell: Cell) -> Iterator[str]:
    yield f"  {cell.name}"
    # Not inside words: they may be paths and settings.
    wrapper = textwrap.TextWrapper(WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    for text in (cell.reason, cell.hint):
        yield from (f"    {line}" for line in wrapper.wrap(text))
