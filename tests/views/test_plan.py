"""What a run would do, and why a stage would run."""

from __future__ import annotations

from tests.views.plans import left_out
from trtbuild.changes import changes
from trtbuild.digest import Json
from trtbuild.views.plan import PlanRow, render_explain, render_plan


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


def test_explain() -> None:
    before: dict[str, Json] = {
        "dims": {"batch": {"opt": 8}},
        "reads": {"models/resnet.py": "1" * 64, "old.py": "3" * 64},
    }
    after: dict[str, Json] = {"dims": {"batch": {"opt": 16}}, "reads": {"models/resnet.py": "2" * 64}, "seed": 1}
    verdict = "would run: these key inputs changed since it last ran"
    assert render_explain("resnet/trace/fp32", verdict, changes(before, after)) == (
        "resnet/trace/fp32 would run: these key inputs changed since it last ran\n"
        "  dims.batch.opt             8 -> 16\n"
        '  reads["models/resnet.py"]  111111111111 -> 222222222222\n'
        '  reads["old.py"]            removed, was 333333333333\n'
        "  seed                       added 1"
    )


def test_explain_without_changes() -> None:
    assert render_explain("r/trace", "would run: not built before", []) == "r/trace would run: not built before"
