"""Where the boxes of a drawing stand: columns from left to right, no two boxes over each other.

A node stands in the column after the last of its sources, artifacts all in the last. Ends of the graph get a row
each, in the order of a walk from the first node on; every other node stands in the middle of those it leads to.
Written here because networkx's own layouts need numpy, which trtbuild alone does not install.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from trtbuild.graph import generations
from trtbuild.views.drawing import Drawing, Node

CHARACTER = 7.0
LINE = 16.0
PADDING = 10.0
MARGIN = 20.0
COLUMN_GAP = 60.0
ROW_GAP = 14.0


@dataclass(frozen=True, slots=True)
class Box:
    """The place of a node: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def right(self) -> float:
        return self.x + self.width


@dataclass(frozen=True, slots=True)
class Layout:
    """The box of every node, and the size of the whole."""

    boxes: Mapping[str, Box]
    width: float
    height: float


def columns_of(text: str) -> int:
    """How many fixed-width characters a text is wide: wide ones count two, combining ones none."""
    return sum(map(_columns_of_one, text))


def _columns_of_one(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def layout_of(drawing: Drawing) -> Layout:
    """Place every node of a drawing."""
    nodes = {node.id: node for node in drawing.nodes}
    columns = _columns(drawing)
    middles = _middles(drawing, columns)
    boxes: dict[str, Box] = {}
    x = MARGIN
    for column in columns:
        width = max(_width(nodes[id]) for id in column)
        bottom = MARGIN - ROW_GAP
        for id in sorted(column, key=lambda id: (middles[id], id)):
            height = _height(nodes[id])
            # A box taller than what it leads to is pushed down where it would touch the one above.
            y = max(middles[id] - height / 2, bottom + ROW_GAP)
            boxes[id] = Box(x, y, width, height)
            bottom = y + height
        x += width + COLUMN_GAP
    height = max((box.y + box.height for box in boxes.values()), default=MARGIN) + MARGIN
    return Layout(boxes, max((box.right for box in boxes.values()), default=MARGIN) + MARGIN, height)


def _width(node: Node) -> float:
    return max(columns_of(line) for line in node.label) * CHARACTER + 2 * PADDING


def _height(node: Node) -> float:
    return len(node.label) * LINE + PADDING


def _columns(drawing: Drawing) -> list[list[str]]:
    steps = {node.id for node in drawing.nodes if node.kind == "step"}
    among_steps = [(edge.source, edge.target) for edge in drawing.edges if edge.target in steps]
    ends = [node.id for node in drawing.nodes if node.id not in steps]
    return [column for column in (*generations(among_steps, steps), ends) if column]


def _middles(drawing: Drawing, columns: list[list[str]]) -> dict[str, float]:
    """The height at which each node would like its middle."""
    nodes = {node.id: node for node in drawing.nodes}
    below = _tree(drawing)
    middles: dict[str, float] = {}
    y = MARGIN
    row = 0.0
    for id in _walk(drawing, below):
        # A row is as high as the highest box of those that stand alone in it.
        row = max(row, _height(nodes[id])) if len(below[id]) < 2 else 0.0
        if not below[id]:
            middles[id] = y + row / 2
            y += row + ROW_GAP
            row = 0.0
    for column in reversed(columns):
        for id in column:
            if below[id]:
                middles[id] = (middles[below[id][0]] + middles[below[id][-1]]) / 2
    return middles


def _tree(drawing: Drawing) -> dict[str, list[str]]:
    """What each node leads to, as a tree: a node with several sources stands under the last of them."""
    source = {edge.target: edge.source for edge in drawing.edges}
    below: dict[str, list[str]] = {node.id: [] for node in drawing.nodes}
    for node in drawing.nodes:
        if node.id in source:
            below[source[node.id]].append(node.id)
    return below


def _walk(drawing: Drawing, below: Mapping[str, list[str]]) -> list[str]:
    inner = {id for ids in below.values() for id in ids}
    waiting = [node.id for node in reversed(drawing.nodes) if node.id not in inner]
    found = []
    while waiting:
        id = waiting.pop()
        found.append(id)
        waiting.extend(reversed(below[id]))
    return found
