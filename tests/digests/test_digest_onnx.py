from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtbuild.digests.onnx import digest_onnx

onnx = pytest.importorskip("onnx")
np = pytest.importorskip("numpy")


def make(path: Path, edit: Callable[[Any], None] | None = None, data: str | None = None) -> Path:
    """A model of one Gemm and one If; `data` names a file for its external data."""
    path.parent.mkdir(exist_ok=True)
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    weight = tensor(np.arange(400, dtype=np.float32).reshape(20, 20), "w")
    bias = tensor(np.ones(20, dtype=np.float32), "b")

    def branch(name: str, value: float) -> Any:
        out = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        node = helper.make_node("Constant", [], [name], value=tensor(np.array([value], np.float32), f"{name}_value"))
        return helper.make_graph([node], f"{name}_graph", [], [out])

    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="gemm", alpha=1.5, transB=1),
        helper.make_node("Constant", [], ["yes"], value=tensor(np.array(True), "flag")),
        helper.make_node("If", ["yes"], ["c"], then_branch=branch("one", 1.0), else_branch=branch("two", 2.0)),
        helper.make_node("Add", ["h", "c"], ["y"], name="add"),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 20]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight, bias])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("custom", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    if edit is not None:
        edit(model)
    if data is not None:
        onnx.save_model(model, str(path), save_as_external_data=True, location=data, size_threshold=0)
    else:
        onnx.save_model(model, str(path))
    return path


def metadata(message: Any) -> None:
    entry = message.metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", "file.py:3"


def reverse(repeated: Any) -> None:
    items = [type(item).FromString(item.SerializeToString()) for item in reversed(repeated)]
    del repeated[:]
    repeated.extend(items)


def typed(model: Any) -> None:
    bias = model.graph.initializer[1]
    bias.ClearField("raw_data")
    bias.float_data.extend([1.0] * 20)


UNCHANGED: dict[str, Callable[[Any], None]] = {
    "nothing": lambda m: None,
    "doc strings": lambda m: [setattr(part, "doc_string", "x") for part in (m, m.graph, m.graph.node[0])] and None,
    "metadata": lambda m: [metadata(part) for part in (m, m.graph, m.graph.node[0], m.graph.input[0])] and None,
    "producer": lambda m: setattr(m, "producer_version", "2.99"),
    "graph name": lambda m: setattr(m.graph, "name", "other"),
    "name of a branch": lambda m: setattr(m.graph.node[2].attribute[0].g, "name", "other"),
    "value info": lambda m: m.graph.value_info.append(onnx.helper.make_tensor_value_info("h", 1, ["n", 20])),
    "order of initializers": lambda m: reverse(m.graph.initializer),
    "order of attributes": lambda m: reverse(m.graph.node[0].attribute),
    "order of operator sets": lambda m: reverse(m.opset_import),
    "floats in their own field": typed,
}


def flip_bit(model: Any) -> None:
    weight = model.graph.initializer[0]
    data = bytearray(weight.raw_data)
    data[7] ^= 1
    weight.raw_data = bytes(data)


CHANGED: dict[str, Callable[[Any], None]] = {
    "one bit of a weight": flip_bit,
    "a constant of a branch": lambda m: setattr(
        m.graph.node[2].attribute[0].g.node[0].attribute[0].t, "raw_data", np.float32(9).tobytes()
    ),
    "an attribute": lambda m: setattr(m.graph.node[0].attribute[0], "f", 1.25),
    "a node's name": lambda m: setattr(m.graph.node[0], "name", "other"),
    "an operator": lambda m: setattr(m.graph.node[3], "op_type", "Sub"),
    "an operator set": lambda m: setattr(m.opset_import[0], "version", 19),
    "an input's size": lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "m"),
    "dims of a weight": lambda m: m.graph.initializer[1].dims.insert(0, 1),
}


@pytest.mark.parametrize("edit", UNCHANGED)
def test_digest_is_unchanged_by(edit: str, tmp_path: Path) -> None:
    base = digest_onnx(make(tmp_path / "base" / "m.onnx"))
    assert digest_onnx(make(tmp_path / "edited" / "m.onnx", UNCHANGED[edit])) == base


@pytest.mark.parametrize("edit", CHANGED)
@pytest.mark.parametrize("data", [None, "m.data"])
def test_digest_is_changed_by(edit: str, data: str | None, tmp_path: Path) -> None:
    base = digest_onnx(make(tmp_path / "base" / "m.onnx"))
    assert digest_onnx(make(tmp_path / "edited" / "m.onnx", CHANGED[edit], data)) != base


def test_where_the_bytes_are_kept_does_not_count(tmp_path: Path) -> None:
    inline = make(tmp_path / "inline" / "m.onnx")
    external = [make(tmp_path / name / f"{name}.onnx", data=f"{name}.data") for name in ("a", "b")]
    assert len({digest_onnx(path) for path in (inline, *external)}) == 1
    assert external[0].with_suffix(".data").is_file()


def test_external_data_counts_by_content(tmp_path: Path) -> None:
    path = make(tmp_path / "a" / "m.onnx", data="m.data")
    before = digest_onnx(path)
    data = bytearray((tmp_path / "a" / "m.data").read_bytes())
    data[5] ^= 1
    (tmp_path / "a" / "m.data").write_bytes(data)
    assert digest_onnx(path) != before


def test_external_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "a" / "m.onnx", data="m.data")
    data = tmp_path / "a" / "m.data"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"m\.data is truncated"):
        digest_onnx(path)
    data.unlink()
    with pytest.raises(ValueError, match=r"external data of .* cannot be read"):
        digest_onnx(path)
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../../secret"
    onnx.save_model(model, str(path))
    with pytest.raises(ValueError, match="outside of the model's folder"):
        digest_onnx(path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 50)
    with pytest.raises(ValueError, match="no ONNX model"):
        digest_onnx(tmp_path / "m.onnx")
