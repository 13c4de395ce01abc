"""Plans to draw."""

from __future__ import annotations

from hypothesis import strategies as st

from trtbuild.plans import Cell, Plan, Step


def resnet() -> Plan:
    """A trace, a compile that two targets share, and four artifacts, one of which cannot be made."""
    return Plan(
        (
            Step("resnet/trace/fp32", "trace", {}),
            Step(
                "resnet/compile/linux/fp32",
                "compile",
                {},
                {"program": "resnet/trace/fp32"},
                aliases=("resnet/compile/windows/fp32",),
            ),
            Step("resnet/export/linux/fp32/engine", "export", {}, {"compiled": "resnet/compile/linux/fp32"}),
            Step("resnet/onnx/fp32", "onnx", {}, {"program": "resnet/trace/fp32"}),
            Step(
                "resnet/cross-compile/windows/fp32/engine",
                "cross-compile",
                {},
                {"compiled": "resnet/compile/linux/fp32"},
            ),
        ),
        (
            Cell(
                "resnet", "linux", "fp32", "engine", "resnet/linux/fp32/model.engine", "resnet/export/linux/fp32/engine"
            ),
            Cell("resnet", "linux", "fp32", "onnx", "resnet/linux/fp32/model.onnx", "resnet/onnx/fp32"),
            left_out(),
            Cell(
                "resnet",
                "windows",
                "fp32",
                "engine",
                "resnet/windows/fp32/model.engine",
                "resnet/cross-compile/windows/fp32/engine",
            ),
        ),
    )


def left_out() -> Cell:
    """A cell that cannot be built."""
    return Cell(
        "resnet",
        "linux",
        "fp32",
        "torchscript",
        "resnet/linux/fp32/model.ts",
        reason="torchscript for Linux needs a GPU while it is written, and there is none here",
        hint="Build it on a GPU machine, or ask for `engine`.",
    )


def diamond() -> Plan:
    """A step that two others need, and one that needs both of them."""
    return Plan(
        (
            Step("r/a", "null", {}),
            Step("r/b", "null", {}, {"in": "r/a"}),
            Step("r/c", "null", {}, {"in": "r/a"}),
            Step("r/d", "null", {}, {"left": "r/b", "right": "r/c"}),
            Step("r/e", "null", {}, {"in": "r/d"}),
        ),
        (Cell("r", "t", "fp32", "null", "r/t/fp32/null.json", "r/e"),),
    )


_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def odd_plans(draw: st.DrawFn) -> Plan:
    """Plans whose names and reasons hold whatever text there is."""
    names = draw(st.lists(_TEXT, min_size=1, max_size=7, unique=True))
    steps = []
    for index, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:index]), max_size=2)) if index else []
        aliases = tuple(draw(st.lists(_TEXT, max_size=2)))
        steps.append(Step(name, "null", {}, {f"slot {draw(_TEXT)}": need for need in needs}, aliases=aliases))
    cells = []
    for index in range(draw(st.integers(0, 4))):
        reason = draw(_TEXT)
        step = "" if reason else draw(st.sampled_from(names))
        cells.append(Cell(draw(_TEXT), draw(_TEXT), "fp32", str(index), draw(_TEXT), step, reason))
    return Plan(tuple(steps), tuple(cells))
