"""A drawing as SVG: one file, no scripts, nothing loaded from elsewhere, read out by screen readers."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from trtbuild.views.drawing import Drawing, Edge, Node
from trtbuild.views.graph_layout import CHARACTER, LINE, PADDING, Box, Layout, columns_of, layout_of

_FOLD = 8.0
_STYLE = """\
text { font: 11.5px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #111827 }
.more { fill: #4b5563 }
.box { stroke: #374151; stroke-width: 1 }
.unbuildable .box { stroke-dasharray: 5 4 }
.edge { fill: none; stroke: #6b7280; stroke-width: 1.2; marker-end: url(#arrow) }"""
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#6b7280"/></marker></defs>'
)


def svg_from_drawing(drawing: Drawing) -> str:
    """Columns from left to right; every text is held to the width of its box, whatever font is found."""
    layout = layout_of(drawing)
    width, height = _n(layout.width), _n(layout.height)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="plan-title plan-desc">',
            f'  <title id="plan-title">{_text(f"Build plan: {drawing.summary}")}</title>',
            f'  <desc id="plan-desc">{_text(_description(drawing))}</desc>',
            f"  <style>\n{_STYLE}\n  </style>",
            f"  {_ARROW}",
            '  <rect width="100%" height="100%" fill="#ffffff"/>',
            *(_edge(edge, layout) for edge in drawing.edges),
            *(line for node in drawing.nodes for line in _node(node, layout.boxes[node.id])),
            "</svg>",
        ]
    )


def _description(drawing: Drawing) -> str:
    links = [f"{edge.source} leads to {edge.target.removeprefix('artifact:')}." for edge in drawing.edges]
    left_out = [node for node in drawing.nodes if node.kind == "unbuildable"]
    missing = [f"{node.label[0]} cannot be built here: {node.note}." for node in left_out]
    return " ".join([*links, *missing]) or "The plan is empty."


def _edge(edge: Edge, layout: Layout) -> str:
    start, end = layout.boxes[edge.source], layout.boxes[edge.target]
    y1, y2 = _n(start.middle), _n(end.middle)
    bend = (end.x - start.right) / 2
    path = f"M{_n(start.right)} {y1}C{_n(start.right + bend)} {y1} {_n(end.x - bend)} {y2} {_n(end.x)} {y2}"
    if not edge.slot:
        return f'  <path class="edge" d="{path}"/>'
    return f'  <path class="edge" d="{path}"><title>{_text(edge.slot)}</title></path>'


def _node(node: Node, box: Box) -> Iterator[str]:
    yield f'  <g class="{node.kind}">'
    yield f"    <title>{_text(': '.join(part for part in (node.label[0], node.note) if part))}</title>"
    yield f"    {_outline(node, box)}"
    for index, line in enumerate(node.label):
        x, y = box.x + PADDING, box.y + PADDING / 2 + (index + 0.75) * LINE
        length = columns_of(line) * CHARACTER
        more = ' class="more"' if index else ""
        fit = f'textLength="{_n(length)}" lengthAdjust="spacingAndGlyphs"'
        yield f'    <text{more} x="{_n(x)}" y="{_n(y)}" {fit}>{_text(line)}</text>'
    yield "  </g>"


def _outline(node: Node, box: Box) -> str:
    if node.kind == "step":
        size = f'x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}"'
        return f'<rect class="box" {size} rx="4" fill={quoteattr(node.fill)}/>'
    fold = f"l{_n(_FOLD)} {_n(_FOLD)}"
    path = f"M{_n(box.x)} {_n(box.y)}H{_n(box.right - _FOLD)}{fold}V{_n(box.y + box.height)}H{_n(box.x)}z"
    return f'<path class="box" d="{path}" fill={quoteattr(node.fill)}/>'


def _text(text: str) -> str:
    # XML has no way at all to write most control characters.
    return escape("".join(character if character.isprintable() else " " for character in text))


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
