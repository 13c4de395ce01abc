"""A drawing as a Mermaid flowchart, as Markdown pages show it.

Source: https://mermaid.js.org/syntax/flowchart.html
"""

from __future__ import annotations

import textwrap

from trtbuild.views.drawing import FILLS, Drawing, Node

# What ends a quoted label, or begins an entity, a tag or Markdown inside it.
_ENTITIES = {ord(character): f"#{ord(character)};" for character in '"#&<>`\\'}
_REASON_WIDTH = 48


def mermaid_from_drawing(drawing: Drawing) -> str:
    """A flowchart from left to right. Nodes have short names of their own: ids may hold words of the language."""
    names = {node.id: f"n{index}" for index, node in enumerate(drawing.nodes)}
    lines = ["flowchart LR"]
    lines += [f"  {names[node.id]}{_box(node)}" for node in drawing.nodes]
    for edge in drawing.edges:
        slot = f"|{_quoted((edge.slot,))}|" if edge.slot else ""
        lines.append(f"  {names[edge.source]} -->{slot} {names[edge.target]}")
    for status, fill in FILLS.items():
        if members := [names[node.id] for node in drawing.nodes if node.status == status]:
            lines += [f"  classDef {status} fill:{fill},color:#111", f"  class {','.join(members)} {status}"]
    if members := [names[node.id] for node in drawing.nodes if node.kind == "unbuildable"]:
        lines += ["  classDef unbuildable stroke-dasharray:5 4", f"  class {','.join(members)} unbuildable"]
    return "\n".join(lines)


def _box(node: Node) -> str:
    # Mermaid shows tooltips only with scripts on, so the reason is part of the label.
    label = (*node.label, *textwrap.wrap(node.note, _REASON_WIDTH, break_long_words=False))
    return f"[{_quoted(label)}]" if node.kind == "step" else f"([{_quoted(label)}])"


def _quoted(lines: tuple[str, ...]) -> str:
    return '"' + "<br/>".join(" ".join(line.split()).translate(_ENTITIES) for line in lines) + '"'
