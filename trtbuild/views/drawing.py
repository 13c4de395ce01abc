"""A plan as nodes and edges to draw: steps, the artifacts they lead to, and the artifacts that cannot be made here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trtbuild.plans import Plan
from trtbuild.views.text import counted

# Fill colours by what happened or would happen to a step; every status is written out as well.
FILLS = {
    "run": "#dbeafe",
    "ran": "#dbeafe",
    "cached": "#dcfce7",
    "failed": "#fee2e2",
    "unknown": "#fef9c3",
    "skipped": "#f3f4f6",
    "pending": "#fef9c3",
}
PLAIN_FILL = "#ffffff"


@dataclass(frozen=True, slots=True)
class Node:
    """A box of a drawing. `note` is what belongs to it and does not fit inside."""

    id: str
    kind: Literal["step", "artifact", "unbuildable"]
    label: tuple[str, ...]
    status: str = ""
    note: str = ""

    @property
    def fill(self) -> str:
        return FILLS.get(self.status, PLAIN_FILL)


@dataclass(frozen=True, slots=True)
class Edge:
    """What a step gives to another, or to an artifact; `slot` is where it goes."""

    source: str
    target: str
    slot: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Nodes in the plan's order, and edges between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    summary: str


def drawing_from_plan(plan: Plan, status: Mapping[str, str]) -> Drawing:
    """What to draw of a plan; `status` says for a step's id what becomes of it."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    for step in plan.steps:
        word = status.get(step.id, "")
        label = (step.id, *(f"also {alias}" for alias in step.aliases), *([word] if word else []))
        nodes.append(Node(step.id, "step", label, word))
        edges.extend(Edge(need, step.id, slot) for slot, need in sorted(step.needs.items()))
    for cell in plan.cells:
        # Steps and cells are named alike; the prefix keeps their ids apart.
        id = f"artifact:{cell.name}"
        if cell.reason:
            nodes.append(Node(id, "unbuildable", (cell.name, "cannot be built here"), note=cell.reason))
        else:
            nodes.append(Node(id, "artifact", (cell.path,)))
            edges.append(Edge(cell.step, id))
    return Drawing(tuple(nodes), tuple(edges), summary_of(plan))


def summary_of(plan: Plan) -> str:
    """How much there is, in a line."""
    left_out = sum(1 for cell in plan.cells if cell.reason)
    made = len(plan.cells) - left_out
    text = f"{counted(len(plan.steps), 'stage')}, {counted(made, 'artifact')}"
    return f"{text}, {left_out} that cannot be built here" if left_out else text
