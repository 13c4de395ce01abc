"""The verify stage on artifacts for the CPU: what passes, and that nothing wrong does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.verification.jobs import IMAGE, verify_job  # noqa: E402
from trtbuild.errors import StageError  # noqa: E402
from trtbuild.stages import verify  # noqa: E402
from trtbuild.verification.cases import Case  # noqa: E402
from trtbuild.verification.examples import arguments  # noqa: E402
from trtbuild.views.verification import render_verification  # noqa: E402
from trtbuild.worker.job import Job  # noqa: E402

VECTOR = {"name": "x", "shape": ["batch", 8], "dtype": "float32", "format": "contiguous"}


def failed(job: Job) -> StageError:
    with pytest.raises(StageError) as raised:
        verify.run(job)
    return raised.value


def opened(monkeypatch: pytest.MonkeyPatch, artifact: Callable[..., Any]) -> None:
    """Have the stage open this in place of the artifact."""
    monkeypatch.setattr(verify, "open_artifact", lambda *_: artifact)


def with_weight(job: Job, name: str, change: Callable[[Any], Any]) -> Job:
    """The job with one weight of its ONNX model changed."""
    path = job.inputs["artifact"]["model.onnx"]
    model = onnx.load(path)
    found = next(weight for weight in model.graph.initializer if weight.name == name)
    found.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(found).copy()), name))
    changed = path.with_name("changed.onnx")
    onnx.save(model, changed)
    return replace(job, inputs={**job.inputs, "artifact": {"model.onnx": changed}})


@pytest.mark.parametrize("format", ["onnx", "exported_program"])
def test_an_artifact_that_gives_the_source_s_numbers_passes(tmp_path: Path, format: str) -> None:
    record = verify.run(verify_job(tmp_path, format=format, verify={"samples": 2}))
    assert record["status"] == "passed" and record["reference"] == "float32"
    assert record["cases"] == 3 + 2
    assert [output["name"] for output in record["outputs"]] == ["scores", "hidden.0", "hidden.1", "positive"]
    for output in record["outputs"]:
        assert output["passed"] and output["mismatched"] == 0.0 and output["cosine"] > 0.99999
        assert set(output["at"]) == {"batch", "seed"}
    assert record["outputs"][3]["rtol"] == record["outputs"][3]["max_abs"] == 0.0
    assert record["on"]["versions"]["torch"] and "compute_capability" not in record["on"]
    json.dumps(record, allow_nan=False)


def test_the_reference_may_be_in_float64(tmp_path: Path) -> None:
    record = verify.run(verify_job(tmp_path, verify={"reference": "float64"}))
    assert record["status"] == "passed" and record["reference"] == "float64"
    # Float32 is off by its own rounding now.
    assert 0 < record["outputs"][0]["max_abs"] < 1e-5


def test_a_source_model_that_cannot_be_run_in_float64_says_so(tmp_path: Path) -> None:
    job = verify_job(tmp_path, "OwnFloats", inputs=[VECTOR], verify={"reference": "float64"})
    error = failed(job)
    assert error.sentence == "The source model cannot be run in float64"
    assert "models.py" in dict(error.facts)["line"] and 'reference = "float32"' in error.hint


def test_an_error_in_the_source_model_is_shown_in_the_user_s_own_line(tmp_path: Path) -> None:
    error = failed(verify_job(tmp_path, "Raises", inputs=[VECTOR]))
    assert error.sentence == "The source model cannot be run in float32"
    assert 'raise ValueError("a batch of one")' in dict(error.facts)["line"]


def test_a_wrong_weight_fails_and_the_outputs_it_reaches_are_named(tmp_path: Path) -> None:
    job = with_weight(verify_job(tmp_path), "head.bias", lambda bias: bias + 0.5)
    error = failed(job)
    table = dict(error.facts)["outputs"].splitlines()
    assert error.sentence == "4 of 4 outputs are not what the source model gives"
    assert table[0].startswith("output") and {line.split()[0] for line in table[1:]} == {
        "scores",
        "hidden.0",
        "hidden.1",
        "positive",
    }
    assert all("batch" in line and "seed" in line and "OFF" in line for line in table[1:])
    assert "--locate" in error.hint and "[verify]" in error.hint


def test_with_report_a_failure_is_a_record(tmp_path: Path) -> None:
    job = with_weight(verify_job(tmp_path, report=True), "head.bias", lambda bias: bias + 0.5)
    record = verify.run(job)
    assert record["status"] == "failed"
    scores = record["outputs"][0]
    assert not scores["passed"] and scores["max_abs"] == pytest.approx(0.5, abs=1e-4) and scores["mismatched"] == 1.0
    json.dumps(record, allow_nan=False)


def test_tolerances_of_one_output_hold_for_it_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    change = {"name": "head.bias", "change": lambda bias: bias + 0.01}
    loose = {"outputs": {"scores": {"atol": 0.1}, "hidden.0": {"atol": 0.1}, "hidden.1": {"rtol": 0.1}}}
    loose["outputs"]["positive"] = {"mismatch": 1.0}
    assert verify.run(with_weight(verify_job(tmp_path / "one", verify=loose), **change))["status"] == "passed"
    (tmp_path / "two").mkdir()
    del loose["outputs"]["hidden.0"]
    error = failed(with_weight(verify_job(tmp_path / "two", verify=loose), **change))
    assert error.sentence == "The output `hidden.0` is not what the source model gives"
    assert dict(error.facts)["within tolerance"] == "3 of 4"


def test_an_output_that_the_model_does_not_give_has_no_tolerance(tmp_path: Path) -> None:
    error = failed(verify_job(tmp_path, verify={"outputs": {"score": {"rtol": 0.1}}}))
    assert "score" in error.sentence and error.hint == "Did you mean `scores`?"


def test_nan_fails_and_is_counted(tmp_path: Path) -> None:
    job = with_weight(verify_job(tmp_path, verify={"mismatch": 1.0}), "head.bias", lambda bias: bias * math.nan)
    error = failed(job)
    assert "20 NaN" in dict(error.facts)["outputs"] and "NaN and Inf never pass" in error.hint


def test_what_a_source_of_zeros_does_not_show_is_told(tmp_path: Path) -> None:
    inputs = [{**VECTOR, "range": [0.0, 0.0]}, {**VECTOR, "name": "gain", "keyword": True, "range": [0.0, 0.0]}]
    record = verify.run(verify_job(tmp_path, "Pair", inputs=inputs))
    assert record["outputs"][0]["reference_rms"] == 0.0
    assert "source gives zeros only" in render_verification(record)


def test_masked_scores_pass(tmp_path: Path) -> None:
    assert verify.run(verify_job(tmp_path, "Mask", inputs=[VECTOR]))["status"] == "passed"


def test_half_precision_that_overflows_fails(tmp_path: Path) -> None:
    job = verify_job(tmp_path, "Large", "exported_program", inputs=[VECTOR], precision="fp16")
    assert "Inf" in dict(failed(job).facts)["outputs"]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_reduced_artifact_is_compared_on_inputs_that_both_can_hold(tmp_path: Path, precision: str) -> None:
    record = verify.run(verify_job(tmp_path, format="exported_program", precision=precision, verify={"mismatch": 0.2}))
    assert record["status"] == "passed" and record["outputs"][0]["max_abs"] > 1e-5


def test_the_source_sees_the_values_that_the_artifact_sees(tmp_path: Path) -> None:
    images = [{**IMAGE, "range": [0.0, 1000.0]}]
    job = verify_job(tmp_path, format="exported_program", precision="fp16", inputs=images)
    (low,), (high,) = (given[0] for given in arguments(job.settings, Case({"batch": 2}, 3), "cpu"))
    assert low.dtype is torch.float16 and high.dtype is torch.float32
    assert torch.equal(low.float(), high) and low.shape[0] == 2
    images[0]["range"] = [0.0, 1e6]
    with pytest.raises(StageError, match="does not fit"):
        arguments({**job.settings, "inputs": images}, Case({"batch": 2}, 3), "cpu")


def test_keywords_and_tuples_pass(tmp_path: Path) -> None:
    inputs = [VECTOR, {**VECTOR, "name": "gain", "keyword": True}]
    record = verify.run(verify_job(tmp_path, "Pair", inputs=inputs))
    assert [output["name"] for output in record["outputs"]] == ["output0", "output1"]


def test_an_artifact_of_other_arguments_fails(tmp_path: Path) -> None:
    job = verify_job(tmp_path, traced_args={"negate": True})
    error = failed(job)
    assert error.sentence == "The output `scores` is not what the source model gives"
    assert "-1.0000000" in dict(error.facts)["outputs"]


def test_another_dtype_shape_or_structure_has_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = verify_job(tmp_path, "Pair", inputs=[VECTOR, {**VECTOR, "name": "gain", "keyword": True}])
    wrong: dict[str, Callable[..., Any]] = {
        "The output `output1` has another dtype than the program's": lambda x, *, gain: (x * gain, (x + gain).half()),
        "The output `output0` has another shape than the source model's": lambda x, *, gain: ((x * gain)[:, :3], x),
        "The artifact's result is built otherwise than the source model's": lambda x, *, gain: [x * gain, x + gain],
        "The artifact failed while it ran": lambda x: x,
    }
    for sentence, artifact in wrong.items():
        opened(monkeypatch, artifact)
        error = failed(job)
        assert error.sentence == sentence
        assert "batch 2, seed 0" in dict(error.facts)["at"]
        record = verify.run(replace(job, options={"report": True}))
        assert (record["status"], record["reason"]) == ("failed", sentence)
        json.dumps(record, allow_nan=False)


def test_an_artifact_that_writes_into_its_inputs_does_not_change_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = verify_job(tmp_path, "Pair", inputs=[VECTOR, {**VECTOR, "name": "gain", "keyword": True}])
    opened(monkeypatch, lambda x, *, gain: (x * gain, x.add_(gain)))
    assert verify.run(job)["status"] == "passed"
