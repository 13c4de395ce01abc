"""The plan drawn: the text as people see it, the other forms as their readers demand."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest
from hypothesis import given, settings

from tests.views.plans import diamond, odd_plans, resnet
from trtbuild.plans import Plan
from trtbuild.views.drawing import drawing_from_plan
from trtbuild.views.graph import render_graph
from trtbuild.views.graph_layout import layout_of

STATUS = {"resnet/trace/fp32": "cached", "resnet/compile/linux/fp32": "run"}

# Graphviz's grammar, as far as it is used: statements of a node, an edge or an attribute.
_ID = r'(?:[A-Za-z_]\w*|-?\d+(?:\.\d+)?|"(?:[^"\\]|\\.)*")'
_LIST = rf"\[{_ID}={_ID}(?:, {_ID}={_ID})*\]"
_STATEMENT = re.compile(rf"  {_ID}(?: -> {_ID})?(?: {_LIST})?;|  {_ID}={_ID};", re.DOTALL)
_MERMAID_NODE = re.compile(r'  (n\d+)(?:\["[^"\n]*"\]|\(\["[^"\n]*"\]\))')
_MERMAID_EDGE = re.compile(r'  (n\d+) -->(?:\|"[^"\n]*"\|)? (n\d+)')
_MERMAID_CLASS = re.compile(r"  class(?:Def [a-z]+ [a-z#:,0-9 -]+| n\d+(?:,n\d+)* [a-z]+)")
SVG = "{http://www.w3.org/2000/svg}"


def test_text() -> None:
    assert render_graph(resnet(), "text", STATUS) == (
        "resnet/trace/fp32 (cached)\n"
        "|- resnet/compile/linux/fp32 (run)\n"
        "|  |  also resnet/compile/windows/fp32\n"
        "|  |- resnet/export/linux/fp32/engine\n"
        "|  |     => resnet/linux/fp32/model.engine\n"
        "|  `- resnet/cross-compile/windows/fp32/engine\n"
        "|        => resnet/windows/fp32/model.engine\n"
        "`- resnet/onnx/fp32\n"
        "      => resnet/linux/fp32/model.onnx\n"
        "\n"
        "cannot be built here:\n"
        "  resnet/linux/fp32/torchscript\n"
        "    torchscript for Linux needs a GPU while it is written, and there is none\n"
        "    here\n"
        "    Build it on a GPU machine, or ask for `engine`.\n"
        "\n"
        "5 stages, 3 artifacts, 1 that cannot be built here"
    )


def test_text_tells_a_shared_step_once_and_refers_to_it_after() -> None:
    assert render_graph(diamond(), "text") == (
        "r/a\n"
        "|- r/b\n"
        "|  `- r/d\n"
        "|     |  needs r/c too\n"
        "|     `- r/e\n"
        "|           => r/t/fp32/null.json\n"
        "`- r/c\n"
        "   `- r/d (see above)\n"
        "\n"
        "5 stages, 1 artifact"
    )


def test_an_empty_plan_has_a_drawing_in_every_form() -> None:
    empty = Plan((), ())
    assert render_graph(empty, "text") == "0 stages, 0 artifacts"
    assert render_graph(empty, "mermaid") == "flowchart LR"
    check_dot(render_graph(empty, "dot"))
    ElementTree.fromstring(render_graph(empty, "svg"))


def check_dot(text: str) -> None:
    """Every statement of a DOT text is one that Graphviz's grammar knows."""
    body = text.removeprefix("digraph plan {\n").removesuffix("\n}")
    assert len(body) + len("digraph plan {\n\n}") == len(text)
    at = 0
    while at < len(body):
        match = _STATEMENT.match(body, at)
        assert match, body[at:]
        at = match.end()
        assert at == len(body) or body[at] == "\n"
        at += 1


def test_dot() -> None:
    text = render_graph(resnet(), "dot", STATUS)
    check_dot(text)
    assert (
        '"resnet/compile/linux/fp32" [shape=box, '
        'label="resnet/compile/linux/fp32\\nalso resnet/compile/windows/fp32\\nrun", fillcolor="#dbeafe"];'
    ) in text
    assert (
        '"artifact:resnet/linux/fp32/torchscript" [shape=note, '
        'label="resnet/linux/fp32/torchscript\\ncannot be built here", fillcolor="#ffffff", style="filled,dashed", '
        'tooltip="torchscript for Linux needs a GPU while it is written, and there is none here"];'
    ) in text
    assert '"resnet/trace/fp32" -> "resnet/onnx/fp32" [label="program"];' in text
    assert '"resnet/onnx/fp32" -> "artifact:resnet/linux/fp32/onnx";' in text


@given(odd_plans())
@settings(deadline=None)
def test_dot_is_valid_whatever_the_names_hold(plan: Plan) -> None:
    check_dot(render_graph(plan, "dot"))


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@given(odd_plans())
@settings(max_examples=10, deadline=None)
def test_graphviz_reads_it(plan: Plan) -> None:
    text = render_graph(plan, "dot").replace("\0", "")
    done = subprocess.run(["dot", "-Tcanon"], input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def check_mermaid(text: str) -> None:
    """Every line is a node, an edge between known nodes, or a class; labels hold nothing that ends or styles them."""
    first, *lines = text.split("\n")
    assert first == "flowchart LR"
    nodes: set[str] = set()
    for line in lines:
        if match := _MERMAID_NODE.fullmatch(line):
            nodes.add(match[1])
        elif match := _MERMAID_EDGE.fullmatch(line):
            assert {match[1], match[2]} <= nodes
        else:
            assert _MERMAID_CLASS.fullmatch(line), line
        for label in re.findall(r'"([^"]*)"', line):
            bare = re.sub(r"#\d+;|<br/>", "", label)
            assert not set(bare) & set('"<>#&`\\'), label


def test_mermaid() -> None:
    text = render_graph(resnet(), "mermaid", STATUS)
    check_mermaid(text)
    assert text == (
        "flowchart LR\n"
        '  n0["resnet/trace/fp32<br/>cached"]\n'
        '  n1["resnet/compile/linux/fp32<br/>also resnet/compile/windows/fp32<br/>run"]\n'
        '  n2["resnet/export/linux/fp32/engine"]\n'
        '  n3["resnet/onnx/fp32"]\n'
        '  n4["resnet/cross-compile/windows/fp32/engine"]\n'
        '  n5(["resnet/linux/fp32/model.engine"])\n'
        '  n6(["resnet/linux/fp32/model.onnx"])\n'
        '  n7(["resnet/linux/fp32/torchscript<br/>cannot be built here<br/>'
        'torchscript for Linux needs a GPU while it is<br/>written, and there is none here"])\n'
        '  n8(["resnet/windows/fp32/model.engine"])\n'
        '  n0 -->|"program"| n1\n'
        '  n1 -->|"compiled"| n2\n'
        '  n0 -->|"program"| n3\n'
        '  n1 -->|"compiled"| n4\n'
        "  n2 --> n5\n"
        "  n3 --> n6\n"
        "  n4 --> n8\n"
        "  classDef run fill:#dbeafe,color:#111\n"
        "  class n1 run\n"
        "  classDef cached fill:#dcfce7,color:#111\n"
        "  class n0 cached\n"
        "  classDef unbuildable stroke-dasharray:5 4\n"
        "  class n7 unbuildable"
    )


@given(odd_plans())
@settings(deadline=None)
def test_mermaid_is_valid_whatever_the_names_hold(plan: Plan) -> None:
    check_mermaid(render_graph(plan, "mermaid"))


def test_svg_says_what_it_shows() -> None:
    root = ElementTree.fromstring(render_graph(resnet(), "svg", STATUS))
    assert root.get("role") == "img"
    named = {element.get("id"): element.text or "" for element in root}
    title, description = (named[id] for id in (root.get("aria-labelledby") or "").split())
    assert title == "Build plan: 5 stages, 3 artifacts, 1 that cannot be built here"
    assert "resnet/trace/fp32 leads to resnet/compile/linux/fp32." in description
    assert "resnet/linux/fp32/torchscript cannot be built here: torchscript for Linux needs a GPU" in description
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "also resnet/compile/windows/fp32" in texts and "cached" in texts


@given(odd_plans())
@settings(deadline=None)
def test_svg_is_whole_and_no_text_leaves_its_box_whatever_the_names_hold(plan: Plan) -> None:
    root = ElementTree.fromstring(render_graph(plan, "svg"))
    groups = root.findall(f"{SVG}g")
    assert len(groups) == len(plan.steps) + len(plan.cells)
    for group, node in zip(groups, drawing_from_plan(plan, {}).nodes, strict=True):
        box = layout_of(drawing_from_plan(plan, {})).boxes[node.id]
        texts = group.findall(f"{SVG}text")
        assert len(texts) == len(node.label)
        for text in texts:
            x, y, length = (float(text.get(name, "")) for name in ("x", "y", "textLength"))
            assert box.x < x and x + length < box.right
            assert box.y < y < box.y + box.height


@given(odd_plans())
@settings(deadline=None)
def test_no_box_touches_another_and_edges_go_right(plan: Plan) -> None:
    drawing = drawing_from_plan(plan, {})
    layout = layout_of(drawing)
    for a, b in combinations(layout.boxes.values(), 2):
        assert a.right < b.x or b.right < a.x or a.y + a.height < b.y or b.y + b.height < a.y
    assert all(layout.boxes[edge.source].right < layout.boxes[edge.target].x for edge in drawing.edges)
    assert all(
        box.x > 0 and box.right < layout.width and box.y + box.height < layout.height for box in layout.boxes.values()
    )
