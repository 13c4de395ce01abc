"""Realised precision: of networks as they are built, and of engines that are loaded."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trtbuild.errors import StageError
from trtbuild.stages.engine_facts import check_precision
from trtbuild.verification.realised import check_engines, layer_dtypes


def engine(*layers: tuple[str, str], inputs: str = "float32", outputs: str = "float32") -> dict[str, Any]:
    """Facts of an engine's network with layers of these types and dtypes."""
    return {
        "inputs": [{"name": "x", "dtype": inputs, "shape": [1]}],
        "outputs": [{"name": "y", "dtype": outputs, "shape": [1]}],
        "layers": [{"name": f"layer {i}", "type": kind, "dtypes": [dtype]} for i, (kind, dtype) in enumerate(layers)],
    }


CONV16, CONV32 = ("CONVOLUTION", "float16"), ("CONVOLUTION", "float32")


def test_what_the_arithmetic_is_in_is_recorded() -> None:
    found = check_precision([engine(CONV16, CONV16, CONV32, ("CONSTANT", "float32"), inputs="float16")], "fp16")
    assert found == {
        "asked": "fp16",
        "compute": {"float16": 2, "float32": 1},
        "inputs": {"float16": 1},
        "outputs": {"float32": 1},
    }


@pytest.mark.parametrize(
    ("precision", "layers"),
    [
        ("fp16", [CONV16, CONV32, CONV32]),
        ("bf16", [CONV16, CONV16]),
        ("fp16-mixed", [CONV32, CONV32]),
        ("fp32", [CONV16, CONV16, CONV32]),
        ("tf32", [("MATRIX_MULTIPLY", "bfloat16")]),
        ("fp16", [("ELEMENTWISE", "float32"), ("ACTIVATION", "float32"), ("SHAPE", "int64")]),
    ],
)
def test_another_precision_than_asked_fails_and_its_layers_are_named(
    precision: str, layers: list[tuple[str, str]]
) -> None:
    with pytest.raises(StageError, match="not in the precision that was asked") as raised:
        check_precision([engine(*layers)], precision)
    facts = dict(raised.value.facts)
    assert facts["asked"] == precision and facts["reason"] and facts["built"]
    assert "layer 0: " in facts["layers"] or "layer 1: " in facts["layers"]


@pytest.mark.parametrize(
    ("precision", "layers"),
    [
        ("fp16", [CONV16, CONV32]),
        ("bf16-mixed", [CONV32, CONV32, ("MATRIX_MULTIPLY", "bfloat16")]),
        ("fp16-mixed", [("ELEMENTWISE", "float32")]),
        ("fp32", [CONV32, CONV16]),
        ("fp16", []),
        ("fp16", [("ELEMENTWISE", "float16"), ("CONSTANT", "float32"), ("CONSTANT", "float32")]),
    ],
)
def test_what_is_mostly_in_it_passes(precision: str, layers: list[tuple[str, str]]) -> None:
    assert check_precision([engine(*layers)], precision)["asked"] == precision


def test_many_layers_are_not_all_told() -> None:
    with pytest.raises(StageError) as raised:
        check_precision([engine(*[CONV32] * 40)], "fp16")
    assert "... and 28 more" in dict(raised.value.facts)["layers"]


DETAILED = {
    "Layers": [
        {"Name": "shapes", "LayerType": "shape_call", "Inputs": [], "Outputs": []},
        {"Name": "move", "LayerType": "kgen", "Outputs": [{"Name": "a", "Format/Datatype": "Half"}]},
        {"Name": "conv", "LayerType": "correlation", "Outputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
        {"Name": "sum", "LayerType": "kgen", "Outputs": [{"Format/Datatype": "Int32"}, {"Format/Datatype": "Float"}]},
        {"Name": "ids", "LayerType": "kgen", "Outputs": [{"Format/Datatype": "Int64"}]},
    ],
    "Bindings": ["x", "y"],
}


class Live:
    """An engine as TensorRT's Python binding shows one."""

    __module__ = "fake_tensorrt"

    def __init__(self, text: str, inputs: str = "HALF", outputs: str = "HALF") -> None:
        self._text = text
        self._tensors = {"x": ("INPUT", inputs), "y": ("OUTPUT", outputs)}
        self.num_io_tensors = 2

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self._tensors[name][1])

    def get_tensor_mode(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self._tensors[name][0])

    def create_engine_inspector(self) -> SimpleNamespace:
        return SimpleNamespace(get_engine_information=lambda format: self._text)


@pytest.fixture(autouse=True)
def fake_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("fake_tensorrt")
    module.LayerInformationFormat = SimpleNamespace(JSON="json")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_tensorrt", module)


def test_layers_that_tell_their_types_are_counted() -> None:
    assert list(layer_dtypes(DETAILED["Layers"])) == ["float16", "float16", "float32"]
    assert check_engines({"e": Live(json.dumps(DETAILED))}, "fp16", ["float16"]) == {
        "asked": "fp16",
        "inputs": {"float16": 1},
        "outputs": {"float16": 1},
        "compute": {"float16": 2, "float32": 1},
    }


@pytest.mark.parametrize("text", ['{"Layers": ["conv_myl0_1"\n,"__myl_Move"], "Bindings": ["x"]}', "", "no json", "[]"])
def test_an_engine_that_tells_names_only_is_asked_for_its_inputs_and_outputs(text: str) -> None:
    assert "compute" not in check_engines({"e": Live(text)}, "fp16", ["float16"])
    with pytest.raises(StageError, match="loaded engine is not in the precision") as raised:
        check_engines({"e": Live(text, "FLOAT", "FLOAT")}, "fp16", ["float16"])
    assert dict(raised.value.facts)["inputs and outputs"] == "2 x float32"


def test_what_the_program_itself_gives_in_float32_is_no_disagreement() -> None:
    assert check_engines({"e": Live("", "INT64", "FLOAT")}, "fp16", ["int64", "float32"])["outputs"] == {"float32": 1}
    two = {"e": Live("", "HALF", "FLOAT"), "f": Live("", "FLOAT", "FLOAT")}
    assert check_engines(two, "fp16", ["float16", "float32"])["inputs"] == {"float16": 1, "float32": 1}


def test_mixed_precision_keeps_the_model_s_inputs_and_outputs() -> None:
    assert check_engines({"e": Live("", "FLOAT", "FLOAT")}, "fp16-mixed", ["float32"])["inputs"] == {"float32": 1}
    with pytest.raises(StageError) as raised:
        check_engines({"e": Live(json.dumps(DETAILED))}, "bf16-mixed", ["float32"])
    assert "float16" in dict(raised.value.facts)["layers"]


def test_an_fp32_recipe_whose_engine_takes_halves_fails() -> None:
    with pytest.raises(StageError):
        check_engines({"e": Live("")}, "fp32", ["float32"])
    assert check_engines({"e": Live("", "INT64", "FLOAT")}, "fp32", ["float32"])["inputs"] == {"int64": 1}
