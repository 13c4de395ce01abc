"""A drawing in Graphviz's language.

Source: https://graphviz.org/doc/info/lang.html
"""

from __future__ import annotations

from trtbuild.views.drawing import Drawing, Node

_SHAPES = {"step": "box", "artifact": "note", "unbuildable": "note"}


def dot_from_drawing(drawing: Drawing) -> str:
    """Steps are boxes, artifacts notes; what cannot be built is dashed and says why as its tooltip."""
    lines = [
        "digraph plan {",
        f"  label={_quoted(drawing.summary)};",
        "  rankdir=LR;",
        '  node [fontname="Helvetica", fontsize=10, style=filled];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    lines += [f"  {_quoted(node.id)} [{_attributes(node)}];" for node in drawing.nodes]
    for edge in drawing.edges:
        slot = f" [label={_quoted(edge.slot)}]" if edge.slot else ""
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)}{slot};")
    return "\n".join([*lines, "}"])


def _attributes(node: Node) -> str:
    attributes = {"shape": _SHAPES[node.kind], "label": _quoted("\n".join(node.label)), "fillcolor": f'"{node.fill}"'}
    if node.kind == "unbuildable":
        attributes["style"] = '"filled,dashed"'
    if node.note:
        attributes["tooltip"] = _quoted(node.note)
    return ", ".join(f"{name}={value}" for name, value in attributes.items())


def _quoted(text: str) -> str:
    # In labels a backslash begins an escape such as \N, the name of the node.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
