"""The plan as a graph, in one of four forms."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from trtbuild.plans import Plan
from trtbuild.views.drawing import drawing_from_plan

Form = Literal["text", "dot", "mermaid", "svg"]

_NO_STATUS: Mapping[str, str] = MappingProxyType({})


def render_graph(plan: Plan, form: Form, status: Mapping[str, str] = _NO_STATUS) -> str:
    """Draw a plan. `status` is a word for a step's id: what becomes of it."""
    if form == "text":
        from trtbuild.views.graph_text import text_from_plan

        return text_from_plan(plan, status)
    drawing = drawing_from_plan(plan, status)
    if form == "dot":
        from trtbuild.views.graph_dot import dot_from_drawing

        return dot_from_drawing(drawing)
    if form == "mermaid":
        from trtbuild.views.graph_mermaid import mermaid_from_drawing

        return mermaid_from_drawing(drawing)
    from trtbuild.views.graph_svg import svg_from_drawing

    return svg_from_drawing(drawing)
