"""What a run would do, and why a stage would run, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtbuild.plans import Cell
from trtbuild.views.text import aligned

if TYPE_CHECKING:
    from trtbuild.explaining import Explanation

_SUMMARY: dict[str, str] = {
    "run": "to run",
    "unknown": "known after these",
    "cached": "cached",
    "pending": "pending",
    "skipped": "skipped",
}


@dataclass(frozen=True, slots=True)
class PlanRow:
    """What would happen to a step. `unknown` until those before it have run."""

    id: str
    action: str
    reason: str


def render_plan(rows: Sequence[PlanRow], cells: Sequence[Cell]) -> str:
    """A line for each step, the cells that cannot be built here, and a line that sums up."""
    blocks = []
    if rows:
        blocks.append("\n".join(aligned([(row.action, row.id, row.reason) for row in rows], indent="")))
    if left_out := [cell for cell in cells if cell.reason]:
        lines = ["cannot be built here:"]
        for cell in left_out:
            lines += [f"  {cell.name}", f"    {cell.reason}", *([f"    {cell.hint}"] if cell.hint else [])]
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, _summary(rows, len(left_out))])


def render_explain(explained: Explanation) -> str:
    """A stage, and for the last run and the next what was or would be, with a line for each sentence of why."""
    lines = [explained.id]
    for name, account in (("last run", explained.last), ("next run", explained.next)):
        lines.append(f"  {name}: {account.verdict}")
        lines += [f"    {sentence}" for told in account.changes for sentence in told.words]
    return "\n".join(lines)


def _summary(rows: Sequence[PlanRow], left_out: int) -> str:
    counts = Counter(row.action for row in rows)
    parts = [f"{counts[action]} {words}" for action, words in _SUMMARY.items() if counts[action]]
    if left_out:
        parts.append(f"{left_out} cannot be built here")
    return ", ".join(parts) or "nothing to do"
