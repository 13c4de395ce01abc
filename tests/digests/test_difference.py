"""What two programs, engines or ONNX models differ in, and where the bytes of two of one meaning part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from digest_samples import SOURCE, MakeEngine, SaveProgram

from trtbuild.digests import canonical_digest, difference
from trtbuild.digests.archive import rewrite
from trtbuild.digests.engine import describe_engine


def meaning_differences(before: Path, after: Path, kind: str) -> list[str]:
    with before.open("rb") as one, after.open("rb") as other:
        return difference.meaning_differences(one, other, kind)


def byte_differences(before: Path, after: Path, kind: str) -> list[str]:
    with before.open("rb") as one, after.open("rb") as other:
        return difference.byte_differences(one, other, kind)


GELU = "aten.gelu.default(linear)"
MUL = "aten.mul.Tensor(gelu, {})"


def flip(name: str) -> Callable[[Any], None]:
    def edit(net: Any) -> None:
        tensor = net.get_parameter(name)
        tensor.view(-1)[0] += 1.0

    return edit


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"edit": flip("first.weight")}, ["weights first.weight"]),
        ({"edit": flip("second.bias")}, ["weights second.bias"]),
        ({"bounds": (2, 16)}, ["range of the dynamic size 0: 2..32 -> 2..16"]),
        ({"source": SOURCE.replace("* 2.0", "* 2.5")}, [f"op mul = {MUL.format(2.0)} -> {MUL.format(2.5)}"]),
        ({"source": SOURCE.replace("[1.0, 2.0, 3.0, 4.0]", "[1.0, 2.0, 3.0, 5.0]")}, ["constants lifted_tensor_0"]),
        ({"source": SOURCE.replace("torch.arange(8.0)", "torch.arange(8.0) + 1")}, ["weights offset"]),
    ],
)  # fmt: skip
def test_a_program_s_op_constant_tensor_or_range_is_named(
    save_program: SaveProgram, change: dict[str, Any], said: list[str]
) -> None:
    assert meaning_differences(save_program(), save_program(**change), "program") == said


def test_another_op_is_named_before_what_follows_from_it(save_program: SaveProgram) -> None:
    other = save_program(SOURCE.replace("functional.gelu(hidden)", "functional.relu(hidden)"))
    found = meaning_differences(save_program(), other, "program")
    assert found[0] == f"op gelu = {GELU} -> relu = aten.relu.default(linear)"


def test_another_dtype_is_told_of_the_tensors(save_program: SaveProgram) -> None:
    import torch

    found = meaning_differences(save_program(), save_program(dtype=torch.float64), "program")
    assert "weights first.weight float32 [8, 4] -> float64 [8, 4]" in found


def test_of_very_many_ops_the_first_few_are_named(save_program: SaveProgram) -> None:
    lines = "\n".join(f"        hidden = torch.sin(hidden) * {at}" for at in range(60))
    sources = [
        SOURCE.replace("        return", f"{text}\n        return") for text in (lines, lines.replace(") * ", ") * 1"))
    ]
    found = meaning_differences(*map(save_program, sources), "program")
    assert 3 <= len(found) <= 6 and found[-1].endswith("more ops")


def test_equal_programs_differ_in_nothing(save_program: SaveProgram) -> None:
    one = save_program()
    other = written(one.with_name("copy"), one.read_bytes())
    assert meaning_differences(one, other, "program") == [] == byte_differences(one, other, "program")


def test_metadata_in_which_programs_of_one_meaning_differ_is_named(save_program: SaveProgram) -> None:
    one, other = save_program(), save_program(above="# a line\n")
    assert canonical_digest(one) == canonical_digest(other)
    (said,) = byte_differences(one, other, "program")
    assert said.startswith("models/model.json: metadata stack_trace of ")
    decomposed = [save_program(decompose=True) for _ in range(2)]
    assert canonical_digest(decomposed[0]) == canonical_digest(decomposed[1])
    assert any("from_node" in text for text in byte_differences(*decomposed, "program"))


def test_another_member_is_told_by_its_name_and_place(save_program: SaveProgram) -> None:
    found = byte_differences(save_program(), save_program(fill=0.25), "program")
    assert [text for text in found if text.startswith("data/sample_inputs/model.pt: ") and "from offset" in text]


def test_what_is_no_program_has_no_words(save_program: SaveProgram, tmp_path: Path) -> None:
    odd = tmp_path / "odd.pt2"
    rewrite(save_program(), odd, {"models/model.json": b"{}"})
    assert meaning_differences(save_program(), odd, "program") == []
    (tmp_path / "text").write_text("no zip")
    assert meaning_differences(odd, tmp_path / "text", "program") == []
    assert byte_differences(odd, tmp_path / "text", "program")


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_an_engine_s_weights_are_told_from_its_code(make_engine: MakeEngine, tmp_path: Path) -> None:
    data = make_engine("mlp")
    section = describe_engine(data)["sections"]["WGHT"]  # type: ignore[index, call-overload]
    other = bytearray(data)
    other[section["offset"] + 40] ^= 1
    files = written(tmp_path / "a", data), written(tmp_path / "b", bytes(other))
    assert meaning_differences(*files, "engine") == ["weights: 1 byte from offset 40"]
    assert byte_differences(*files, "engine") == ["weights in WGHT: 1 byte from offset 40"]
    seeded = written(tmp_path / "c", make_engine("mlp", times=3.0))
    assert any(text.startswith("the engine's code: ") for text in meaning_differences(files[0], seeded, "engine"))


def test_names_of_shape_temporaries_are_told_as_such(make_engine: MakeEngine, tmp_path: Path) -> None:
    first = make_engine("mobile")
    # The next build has other counters nearly always.
    other = next((made for _ in range(6) if (made := make_engine("mobile")) != first), first)
    files = written(tmp_path / "a", first), written(tmp_path / "b", other)
    assert first != other and canonical_digest(files[0]) == canonical_digest(files[1])
    (said,) = byte_differences(*files, "engine")
    assert said.startswith("names, order and places of shape temporaries in ENGN: ")


def test_an_engine_of_another_version_is_told_as_such(make_engine: MakeEngine, tmp_path: Path) -> None:
    data = bytearray(make_engine("mlp"))
    one = written(tmp_path / "a", bytes(data))
    data[0x18:0x1C] = bytes((1, 4, 0, 76))
    found = meaning_differences(one, written(tmp_path / "b", bytes(data)), "engine")
    assert found[0].startswith("TensorRT-RTX ") and found[0].endswith(" -> 1.4.0.76")


@pytest.fixture
def onnx_model(tmp_path: Path) -> Callable[..., Path]:
    helper = pytest.importorskip("onnx.helper")
    import numpy
    from onnx import TensorProto, numpy_helper

    def model(
        op: str = "Relu", axis: int = 1, weight: float = 1.0, name: str = "x", opset: int = 18, doc: str = ""
    ) -> Path:
        weights = numpy_helper.from_array(numpy.full((2, 3), weight, numpy.float32), "w")
        nodes = [
            helper.make_node(op, [name], ["y"], "act", doc_string=doc),
            helper.make_node("Concat", ["y", "w"], ["z"], "join", axis=axis),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
            [weights],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        return written(tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx", made.SerializeToString())

    return model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"op": "Tanh"}, ["node act: Relu(x) -> Tanh(x)"]),
        ({"axis": 0}, ["node join: attribute axis"]),
        ({"weight": 2.0}, ["initializer w"]),
        ({"opset": 20}, ["opset ai.onnx 18 -> 20"]),
        ({"name": "input"}, ["node act: Relu(x) -> Relu(input)", "input input added", "input x removed"]),
        ({"doc": "says nothing"}, []),
    ],
)
def test_an_onnx_model_s_node_or_initializer_is_named(
    onnx_model: Callable[..., Path], change: dict[str, Any], said: list[str]
) -> None:
    assert meaning_differences(onnx_model(), onnx_model(**change), "onnx") == said


def test_what_is_no_onnx_model_has_no_words(onnx_model: Callable[..., Path], tmp_path: Path) -> None:
    good = onnx_model()
    for data in (b"\xff" * 9, good.read_bytes()[:-3], b"\x3a\x05ab"):
        assert isinstance(meaning_differences(good, written(tmp_path / "bad", data), "onnx"), list)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (b"abc", b"abc", []),
        (b"abc", b"abd", ["1 byte from offset 2"]),
        (b"a" * (3 << 20), b"a" * (1 << 20) + b"bb" + b"a" * ((2 << 20) - 2), ["2 bytes from offset 1,048,576"]),
        (b"abc", b"abcd", ["3 -> 4 bytes, the first difference at 3"]),
        (b"", b"x", ["0 -> 1 bytes, the first difference at 0"]),
    ],
)
def test_bytes_are_told_by_place_and_number(tmp_path: Path, one: bytes, other: bytes, said: list[str]) -> None:
    assert byte_differences(written(tmp_path / "a", one), written(tmp_path / "b", other), "") == said


def test_json_is_told_by_its_values(tmp_path: Path) -> None:
    files = [written(tmp_path / str(at), json.dumps({"a": {"b": at}, "c": 1}).encode()) for at in range(2)]
    assert meaning_differences(*files, "json") == ["a.b 0 -> 1"]
