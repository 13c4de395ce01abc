"""A verification record as text."""

from __future__ import annotations

from typing import Any

from trtbuild.views.verification import located_text, output_rows, precision_text, render_verification

OUTPUT: dict[str, Any] = {
    "name": "logits",
    "passed": True,
    "max_abs": 0.00123,
    "max_rel": 0.5,
    "mean_abs": 0.0001,
    "cosine": 0.9999991,
    "mismatched": 0.0,
    "nan": 0,
    "inf": 0,
    "reference_nan": 0,
    "rtol": 0.015625,
    "atol": 0.02,
    "of_tolerance": 0.06,
    "at": {"batch": 8, "seed": 1},
}
RECORD: dict[str, Any] = {
    "status": "passed",
    "reference": "float32",
    "cases": 12,
    "on": {"device": "NVIDIA H200"},
    "outputs": [OUTPUT],
    "precision": {"asked": "fp16", "compute": {"float16": 53, "float32": 1}},
}


def test_a_record_is_a_line_and_a_table() -> None:
    lines = render_verification(RECORD).splitlines()
    assert lines[0] == "passed against the source model in float32 at 12 cases on NVIDIA H200"
    assert " ".join(lines[1].split()) == "output error of max rel mean cosine beyond worst at"
    row = "logits ok 1.23e-03 6 % of tolerance 5.00e-01 1.00e-04 0.9999991 none batch 8, seed 1"
    assert " ".join(lines[2].split()) == row
    assert lines[3] == "  precision  fp16 asked; 53 x float16, 1 x float32"


def test_what_is_off_stands_out() -> None:
    off = {**OUTPUT, "passed": False, "of_tolerance": 1234.5, "mismatched": 0.25}
    assert output_rows([off])[1][1:4] == ("OFF", "1.23e-03", "1,234 x tolerance")
    assert output_rows([off])[1][7] == "25 %"
    broken = {**off, "nan": 3, "inf": 1, "of_tolerance": None, "max_abs": None, "cosine": None}
    assert output_rows([broken])[1][2:4] == ("?", "3 NaN, 1 Inf")
    equal = {**OUTPUT, "rtol": 0.0, "atol": 0.0}
    assert output_rows([equal])[1][3] == "must be equal"


def test_a_record_that_is_pending_or_of_another_version_is_no_error() -> None:
    assert render_verification({"status": "pending", "reason": "that needs a GPU"}) == "pending: that needs a GPU"
    assert render_verification({}) == "unknown"
    refused = {"status": "failed", "reason": "another shape", "facts": [["artifact", "[2, 3]"], "?"]}
    assert render_verification(refused).splitlines() == ["failed: another shape", "  artifact  [2, 3]"]
    assert "y" in render_verification({"status": "passed", "outputs": [{"name": "y"}, "?"], "precision": 7})
    assert precision_text({}) == ""


def test_where_an_artifact_parts_from_the_source() -> None:
    located = {
        "op": "aten.conv2d.default",
        "name": "conv2d_3",
        "module": "layer1.conv (Conv2d)",
        "source": "net.py:7: return self.conv(x)",
        "partition": "the engine _run_on_acc_0",
        "before": OUTPUT,
        "after": {**OUTPUT, "of_tolerance": 40.0},
    }
    assert located_text(located).splitlines() == [
        "aten.conv2d.default (conv2d_3)",
        "in the module layer1.conv (Conv2d)",
        "net.py:7: return self.conv(x)",
        "held by the engine _run_on_acc_0",
        "error: 1.23e-03 (6 % of tolerance) before it, 1.23e-03 (40 x tolerance) after it",
    ]
    assert located_text({"note": "nothing is off"}) == "nothing is off"
    text = render_verification({**RECORD, "located": located})
    assert "  first off  aten.conv2d.default (conv2d_3)" in text and "    held by the engine" in text
