"""What a run would do, and why a stage would run."""

from __future__ import annotations

from tests.views.plans import left_out
from trtbuild.changes import Change
from trtbuild.explaining import Account, Explanation
from trtbuild.views.plan import PlanRow, render_explain, render_plan
from trtbuild.words import Told


def test_plan() -> None:
    rows = [
        PlanRow("resnet/trace/fp32", "run", 'reads["models/resnet.py"] 1111 -> 2222'),
        PlanRow("resnet/compile/linux/fp32", "unknown", "known when resnet/trace/fp32 has run"),
        PlanRow("resnet/onnx/fp32", "cached", ""),
        PlanRow("vit/trace/fp16", "skipped", "not asked for"),
    ]
    assert render_plan(rows, [left_out()]) == (
        'run      resnet/trace/fp32          reads["models/resnet.py"] 1111 -> 2222\n'
        "unknown  resnet/compile/linux/fp32  known when resnet/trace/fp32 has run\n"
        "cached   resnet/onnx/fp32\n"
        "skipped  vit/trace/fp16             not asked for\n"
        "\n"
        "cannot be built here:\n"
        "  resnet/linux/fp32/torchscript\n"
        "    torchscript for Linux needs a GPU while it is written, and there is none here\n"
        "    Build it on a GPU machine, or ask for `engine`.\n"
        "\n"
        "1 to run, 1 known after these, 1 cached, 1 skipped, 1 cannot be built here"
    )


def test_plan_with_nothing_in_it() -> None:
    assert render_plan([], []) == "nothing to do"


def told(*words: str) -> Told:
    return Told(Change("x", 1, 2, "changed", ("x",)), words)


def test_explain() -> None:
    ran = Account("ran", "ran, since these key inputs had changed", [told("models/resnet.py: function forward")])
    would = Account(
        "run", "would run, since these key inputs changed", [told("dims.batch.opt 8 -> 16"), told("a", "b")]
    )
    assert render_explain(Explanation("resnet/trace/fp32", ran, would)) == (
        "resnet/trace/fp32\n"
        "  last run: ran, since these key inputs had changed\n"
        "    models/resnet.py: function forward\n"
        "  next run: would run, since these key inputs changed\n"
        "    dims.batch.opt 8 -> 16\n"
        "    a\n"
        "    b"
    )


def test_explain_without_changes() -> None:
    never, would = Account("never", "not built before"), Account("run", "would run, not built before")
    assert render_explain(Explanation("r/trace", never, would)) == (
        "r/trace\n  last run: not built before\n  next run: would run, not built before"
    )
