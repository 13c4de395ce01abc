"""What the loader makes of manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.samples import manifest_of, tensor
from trtbuild.runtime import Description, LoadError
from trtbuild.runtime.sizes import size_of


@pytest.fixture
def manifest(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"program")
    return manifest_of(path, "exported_program", [tensor("x", ["batch", 3]), tensor("y", ["batch"], "int64")], 2)


def test_all_that_a_manifest_tells(manifest: dict[str, Any]) -> None:
    found = Description.from_manifest(manifest, "model.pt2")
    assert (found.format, found.target.runtime, found.target.device) == ("exported_program", "torch", "cpu")
    assert found.inputs[0].shape == ("batch", 3) and found.inputs[0].ranges == {"batch": (1, 4, 8)}
    assert found.result == {"tuple": [0, 1]} and found.digest == manifest["files"][0]["digest"].removeprefix("sha256:")
    assert not found.has_engines and found.whole is None


def test_without_a_signature_the_flat_order_is_the_signature(manifest: dict[str, Any]) -> None:
    del manifest["signature"]
    found = Description.from_manifest(manifest, "model.pt2")
    assert [(p.name, p.keyword, p.tree) for p in found.parameters] == [("x", False, 0), ("y", False, 1)]
    assert found.result == {"tuple": [0, 1]}


@pytest.mark.parametrize("schema", [None, 1, 3, "2"])
def test_other_schemas_are_refused(manifest: dict[str, Any], schema: object) -> None:
    with pytest.raises(LoadError, match="schema that this loader does not read"):
        Description.from_manifest({**manifest, "schema": schema}, "model.pt2")


def test_a_file_that_the_manifest_does_not_name(manifest: dict[str, Any]) -> None:
    with pytest.raises(LoadError, match="does not tell of this file") as caught:
        Description.from_manifest(manifest, "other.pt2")
    assert "model.pt2" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": None},
        {"target": {}},
        {"outputs": [{"shape": []}]},
        {"signature": {"inputs": [{"name": "x", "tree": 5}], "outputs": 0}},
        {"signature": {"inputs": [], "outputs": {"set": [0]}}},
        {"signature": {"inputs": [], "outputs": True}},
        {"files": [{"path": "model.pt2"}]},
        {"toolchain": 3},
        {"signature": {"inputs": [{"name": "not a name", "tree": 0}], "outputs": 0}},
        {"signature": {"inputs": [{"name": "x", "tree": 0}, {"name": "x", "tree": 0}], "outputs": 0}},
    ],
)
def test_damage_is_one_error_that_says_where(manifest: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(LoadError, match="manifest is damaged"):
        Description.from_manifest({**manifest, **change}, "model.pt2")


def test_files_that_onnx_reads_beside_itself_are_known(manifest: dict[str, Any]) -> None:
    files = [
        {"format": "onnx", "path": name, "digest": f"sha256:{name}", "bytes": 1}
        for name in ("model.onnx", "model.onnx.data")
    ]
    found = Description.from_manifest({**manifest, "files": files}, "model.onnx")
    assert found.beside == {"model.onnx.data": "model.onnx.data"}


@pytest.mark.parametrize(
    ("expression", "size"),
    [
        ("2*batch", 8),
        ("batch + 1", 5),
        ("(batch - 1)//2", 1),
        ("Max(1, batch - 9)", 1),
        ("-batch + 6", 2),
        ("tokens", None),
        ("batch//0", None),
        ("__import__('os').getpid()", None),
        ("batch.real", None),
        ("2*", None),
    ],
)
def test_sizes_are_simple_arithmetic_over_dims(expression: str, size: int | None) -> None:
    assert size_of(expression, {"batch": 4}) == size
