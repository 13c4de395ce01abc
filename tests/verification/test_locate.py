"""The first op that is off is found: in an ONNX model broken on purpose, and in a program that is made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.verification.jobs import verify_job  # noqa: E402
from trtbuild.errors import StageError  # noqa: E402
from trtbuild.stages import locate, verify  # noqa: E402
from trtbuild.verification import marks  # noqa: E402
from trtbuild.verification.behind import steps_behind  # noqa: E402
from trtbuild.verification.cases import Case  # noqa: E402
from trtbuild.verification.program_values import load_program, user_source, value_names, values, with_values  # noqa: E402
from trtbuild.worker.job import Job  # noqa: E402

CASE = Case({"batch": 3}, 5)


def broken(job: Job, change: Callable[[Any], None]) -> Job:
    """The job with its ONNX model changed."""
    path = job.inputs["artifact"]["model.onnx"]
    model = onnx.load(path)
    change(model)
    changed = path.with_name("changed.onnx")
    onnx.save(model, changed)
    return replace(job, inputs={**job.inputs, "artifact": {"model.onnx": changed}})


def scaled(name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        weight = next(weight for weight in model.graph.initializer if weight.name == name)
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, name))

    return change


def other_op(wanted: str, instead: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        next(node for node in model.graph.node if node.op_type == wanted).op_type = instead

    return change


@pytest.mark.parametrize(
    ("change", "op", "module", "code", "node"),
    [
        (scaled("conv.weight"), "aten.conv2d.default", "conv (", "torch.relu(self.conv(x))", "(Conv)"),
        (scaled("head.weight"), "aten.linear.default", "head (", "self.head(torch.tanh(y))", "(Gemm)"),
        (other_op("Tanh", "Sigmoid"), "aten.tanh.default", "", "self.head(torch.tanh(y))", "(Sigmoid)"),
    ],
    ids=["first", "last", "op"],
)
def test_the_op_that_was_broken_is_found(
    tmp_path: Path, change: Callable[[Any], None], op: str, module: str, code: str, node: str
) -> None:
    job = broken(verify_job(tmp_path, report=True, locate=True), change)
    record = verify.run(job)
    found = record["located"]
    assert record["status"] == "failed" and found["op"] == op
    assert found.get("module", "").startswith(module) and code in found["source"] and "models.py:" in found["source"]
    assert node in found["partition"]
    assert found["after"]["of_tolerance"] > 1
    assert ("before" in found) == (op != "aten.conv2d.default")
    assert found["at"] in [output["at"] for output in record["outputs"] if not output["passed"]]
    json.dumps(record, allow_nan=False)


def test_a_failure_tells_what_was_located(tmp_path: Path) -> None:
    job = broken(verify_job(tmp_path, locate=True), scaled("head.weight"))
    with pytest.raises(StageError) as raised:
        verify.run(job)
    told = dict(raised.value.facts)["first off"]
    assert told.startswith("aten.linear.default (linear)") and "self.head(torch.tanh(y))" in told
    assert "--locate" not in raised.value.hint


def test_few_marks_find_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks.first_off, "__defaults__", (2, 64))
    job = broken(verify_job(tmp_path), other_op("Tanh", "Sigmoid"))
    found = locate.locate(job, CASE)
    assert (found["op"], found["last_good"], found["rounds"]) == ("aten.tanh.default", "mean", 2)


def test_an_artifact_that_is_right_inside_says_so(tmp_path: Path) -> None:
    found = locate.locate(verify_job(tmp_path), CASE)
    assert "op" not in found and "within tolerance" in found["note"]


def test_without_the_steps_behind_an_artifact_nothing_is_built_again(tmp_path: Path) -> None:
    assert "cannot be built again" in locate.locate(verify_job(tmp_path, format="exported_program"), CASE)["note"]


BEHIND = [
    {
        "kind": "export",
        "settings": {
            "format": "exported_program",
            "platform": "linux-x86_64",
            "runtime": "torch",
            "device": "cpu",
            "export": {"retrace": False, "exporter": "legacy", "dynamic_shapes": "explicit", "pickle_protocol": 2},
        },
        "needs": {"program": "trace"},
    }
]


def test_a_program_is_made_again_with_more_outputs(tmp_path: Path) -> None:
    job = verify_job(tmp_path, format="exported_program", behind=BEHIND)
    found = locate.locate(job, CASE)
    assert "built again with more outputs" in found["note"] and "within tolerance" in found["note"]


def test_the_op_that_a_rebuilt_program_gets_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = verify_job(tmp_path, format="exported_program", behind=BEHIND)
    exact = locate.with_values

    def with_a_fault(program: Any, names: Any) -> Any:
        node = next(node for node in program.graph.nodes if node.name == "tanh")
        node.target = torch.ops.aten.sigmoid.default
        return exact(program, names)

    monkeypatch.setattr(locate, "with_values", with_a_fault)
    found = locate.locate(job, CASE)
    assert found["op"] == "aten.tanh.default" and "self.head(torch.tanh(y))" in found["source"]
    assert found["last_good"] == "mean"


def test_a_program_that_is_not_in_the_store_is_traced_again(tmp_path: Path) -> None:
    job = verify_job(tmp_path, format="exported_program")
    settings = {**job.settings, "cast": "fp32", "strict": False, "decompositions": "default"}
    behind = [{"kind": "trace", "settings": settings, "needs": {}}, *BEHIND]
    job = replace(job, inputs={**job.inputs, "program": {}}, options={"behind": behind})
    assert "within tolerance" in locate.locate(job, CASE)["note"]


def test_a_step_that_fails_is_told_and_not_raised(tmp_path: Path) -> None:
    behind = [{**BEHIND[0], "settings": {**BEHIND[0]["settings"], "format": "nothing"}}]
    found = locate.locate(verify_job(tmp_path, format="exported_program", behind=behind), CASE)
    assert "op" not in found and found["note"]


def test_the_steps_behind_an_artifact_are_told_by_its_manifest() -> None:
    def stage(kind: str, *slots: str, **settings: str) -> dict[str, Any]:
        return {"kind": kind, "key_inputs": {"settings": settings, "inputs": dict.fromkeys(slots, "digest")}}

    stages = [
        stage("trace", cast="fp32"),
        stage("onnx", "program", opset="20"),
        stage("compile", "program", "onnx", converter="onnx"),
        stage("export", "compiled", format="engine"),
        stage("export", "compiled", format="torchscript"),
        stage("verify", "artifact", "program", format="engine"),
    ]
    found = steps_behind(stages, "engine")
    assert [step["kind"] for step in found] == ["trace", "onnx", "compile", "export"]
    assert found[-1] == {"kind": "export", "settings": {"format": "engine"}, "needs": {"compiled": "compile"}}
    assert found[2]["needs"] == {"program": "trace", "onnx": "onnx"}
    assert [step["kind"] for step in steps_behind(stages, "onnx")] == ["trace", "onnx"]
    assert steps_behind(stages, "aot_inductor") == steps_behind(stages[1:], "engine") == []


def test_a_program_with_values_gives_what_it_gave_and_the_values(tmp_path: Path) -> None:
    path = verify_job(tmp_path).inputs["program"]["program.pt2"]
    program = load_program(path)
    names = value_names(program)
    assert names[0] == "conv2d" and "tanh" in names and "linear" in names
    x = torch.rand(3, 3, 8, 8)
    expected = values(program, [x], names, "cpu")
    torch.export.save(with_values(load_program(path), names), tmp_path / "more.pt2")
    before, after = torch.export.load(tmp_path / "more.pt2").module()(x)
    source = torch.export.load(path).module()(x)
    assert list(before) == list(source) and torch.equal(before["scores"], source["scores"])
    assert all(torch.equal(value, expected[name]) for name, value in zip(names, after, strict=True))


def test_the_user_s_own_line_is_told_where_a_stack_has_one() -> None:
    own = 'File "/home/me/net.py", line 7, in forward\n    return self.conv(x)\n'
    torch_s = f'  File "{torch.__file__}", line 5, in forward\n    return F.conv2d(x)'
    assert user_source(own + torch_s) == "/home/me/net.py:7: return self.conv(x)"
    assert user_source(torch_s) == f"{torch.__file__}:5: return F.conv2d(x)"
    assert user_source("") == ""
