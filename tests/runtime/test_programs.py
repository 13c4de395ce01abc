"""Programs on the CPU: torch.export, TorchScript, ONNX, called as their models."""

from __future__ import annotations

import inspect
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.nets import Sum
from tests.runtime.samples import Affine, affine_program, artifact, edit_manifest, tensor
from trtbuild.runtime import InputError, LoadError, load

SUM_INPUTS = [tensor(name, ["batch", 8]) for name in ("a", "pair_0", "pair_1_0", "named_z", "gain")]
SUM_SIGNATURE = {
    "inputs": [
        {"name": "a", "keyword": False, "tree": 0},
        {"name": "pair", "keyword": False, "tree": {"tuple": [1, {"list": [2]}]}},
        {"name": "named", "keyword": False, "tree": {"dict": {"z": 3}}},
        {"name": "gain", "keyword": True, "tree": 4},
    ],
    "outputs": {"dict": {"total": 0, "first": 1}},
}


def sum_arguments(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    t = [torch.randn(batch, 8) for _ in range(5)]
    return (t[0], (t[1], [t[2]]), {"z": t[3]}), {"gain": t[4]}


def test_a_program_is_called_as_its_model(tmp_path: Path) -> None:
    path, model = affine_program(tmp_path)
    loaded = load(path)
    for batch in (1, 4, 8):
        x = torch.randn(batch, 4)
        assert torch.equal(loaded(x), model(x)) and torch.equal(loaded(x=x), model(x))
    assert loaded.flat(x)[0].grad_fn is None
    assert str(inspect.signature(loaded)) == "(x)"
    assert isinstance(loaded, torch.nn.Module) and not list(loaded.parameters()) and loaded.engines == {}
    with pytest.raises(InputError, match="beyond the range"):
        loaded(torch.randn(9, 4))
    with pytest.raises(InputError, match="another dtype"):
        loaded(torch.randn(4, 4).double())


class Strided(torch.nn.Module):
    """Reads its input as it should lie in memory."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.as_strided((2, 4), (4, 1)) + 1, y.as_strided((2, 3, 2, 2), (12, 1, 6, 3)) + 1


def test_tensors_that_lie_otherwise_in_memory_give_the_same(tmp_path: Path) -> None:
    x, y = torch.randn(2, 4), torch.randn(2, 3, 2, 2)
    last = y.to(memory_format=torch.channels_last)
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Strided(), (x, last)), path)
    inputs = [tensor("x", [2, 4]), tensor("y", [2, 3, 2, 2], format="channels_last")]
    loaded = load(artifact(path, "exported_program", inputs, 2))
    for given in ((x, last), (x.t().contiguous().t(), y)):
        assert all(map(torch.equal, loaded(*given), (x + 1, y + 1)))
    with pytest.raises(InputError, match="not dense"):
        loaded(x.to_sparse(), y)


def test_nested_inputs_keywords_and_the_output_structure(tmp_path: Path) -> None:
    model = Sum().eval()
    args, kwargs = sum_arguments(4)
    batch = torch.export.Dim("batch", min=1, max=8)
    shapes = {"a": {0: batch}, "pair": ({0: batch}, [{0: batch}]), "named": {"z": {0: batch}}, "gain": {0: batch}}
    program = torch.export.export(model, args, kwargs, dynamic_shapes=shapes)
    path = tmp_path / "model.pt2"
    torch.export.save(program, path)
    artifact(path, "exported_program", SUM_INPUTS, 2, signature=SUM_SIGNATURE)
    loaded = load(path)
    args, kwargs = sum_arguments(7)
    found, expected = loaded(*args, **kwargs), model(*args, **kwargs)
    assert list(found) == ["total", "first"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert str(inspect.signature(loaded)) == "(a, pair, named, *, gain)"
    with pytest.raises(InputError, match="differ in the dim `batch`"):
        loaded(args[0][:3], *args[1:], **kwargs)


def test_constants_of_the_trace_stay_what_they_were(tmp_path: Path) -> None:
    class Scaled(torch.nn.Module):
        def forward(self, x: torch.Tensor, scale: float, mask: Any = None) -> tuple[torch.Tensor, None]:
            return x * scale, None

    program = torch.export.export(Scaled(), (torch.randn(3), 2.0), {"mask": None})
    path = tmp_path / "model.pt2"
    torch.export.save(program, path)
    signature = {
        "inputs": [
            {"name": "x", "keyword": False, "tree": 0},
            {"name": "scale", "keyword": False, "tree": {"value": 2.0}},
            {"name": "mask", "keyword": True, "tree": {"value": None}},
        ],
        "outputs": {"tuple": [0, {"value": None}]},
    }
    artifact(path, "exported_program", [tensor("x", [3])], 2, signature=signature)
    loaded = load(path)
    doubled, nothing = loaded(torch.ones(3))
    assert nothing is None and torch.equal(doubled, torch.full((3,), 2.0))
    with pytest.raises(InputError, match="`scale` is fixed in the artifact"):
        loaded(torch.ones(3), 3.0)


class Mixed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"a": x * 2, "none": None, "n": (x + 1, None, 7), "size": x.shape[0]}


@pytest.mark.parametrize("format", ["exported_program", "torchscript"])
def test_constants_and_sizes_among_the_outputs(tmp_path: Path, format: str) -> None:
    model, path = Mixed(), tmp_path / "model.pt2"
    if format == "exported_program":
        batch = torch.export.Dim("batch", min=1, max=8)
        torch.export.save(torch.export.export(model, (torch.randn(4, 3),), dynamic_shapes=({0: batch},)), path)
    else:

        class Tensors(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
                return x * 2, x + 1, torch.tensor(x.shape[0])

        torch.jit.script(Tensors()).save(str(path))
    tree = {"dict": {"a": 0, "none": {"value": None}, "n": {"tuple": [2, {"value": None}, {"value": 7}]}, "size": 5}}
    signature = {"inputs": [{"name": "x", "keyword": False, "tree": 0}], "outputs": tree}
    artifact(path, format, [tensor("x", ["batch", 3])], 6, signature=signature)
    loaded, x = load(path), torch.randn(5, 3)
    found, expected = loaded(x), model(x)
    assert list(found) == list(expected) and found["none"] is None and found["n"][1:] == (None, 7)
    assert torch.equal(found["a"], expected["a"]) and torch.equal(found["n"][0], expected["n"][0])
    assert int(found["size"]) == 5 and len(loaded.flat(x)) == 6


def test_a_program_that_fixes_what_its_manifest_lets_vary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Affine(), (torch.randn(4, 4),)), path)
    artifact(path, "exported_program", [tensor("x", ["batch", 4])])
    with pytest.raises(LoadError, match="does not have the sizes that its manifest says"):
        load(path)


def test_a_program_with_other_tensors_than_its_manifest_is_refused(tmp_path: Path) -> None:
    path, _ = affine_program(tmp_path)
    more = [tensor("x", ["batch", 4]), tensor("y", ["batch", 4])]
    edit_manifest(path, lambda manifest: manifest.update(inputs=more, signature=None))
    with pytest.raises(LoadError, match="does not take what its manifest says"):
        load(path)
    one = more[:1]
    edit_manifest(path, lambda manifest: manifest.update(inputs=one, outputs=manifest["outputs"] * 2))
    with pytest.raises(LoadError, match="does not give what its manifest says"):
        load(path)(torch.randn(2, 4))


def test_torchscript_by_flat_tensors_and_by_structure(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    model = Affine().eval()
    torch.jit.trace(model, torch.randn(4, 4)).save(str(flat / "model.ts"))
    loaded = load(artifact(flat / "model.ts", "torchscript", [tensor("x", ["batch", 4])]))
    x = torch.randn(5, 4)
    assert torch.equal(loaded(x), model(x)) and str(inspect.signature(loaded)) == "(x)"

    class Pair(torch.nn.Module):
        def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            return pair[0] + pair[1], pair[0]

    path = tmp_path / "model.ts"
    torch.jit.trace(Pair(), ((torch.randn(2), torch.randn(2)),)).save(str(path))
    signature = {
        "inputs": [{"name": "pair", "keyword": False, "tree": {"tuple": [0, 1]}}],
        "outputs": {"list": [1, 0]},
    }
    artifact(path, "torchscript", [tensor("pair_0", ["batch"]), tensor("pair_1", ["batch"])], 2, signature=signature)
    first, total = load(path)((torch.ones(3), torch.ones(3)))
    assert torch.equal(first, torch.ones(3)) and torch.equal(total, torch.full((3,), 2.0))


def test_torchscript_that_opens_files_is_refused(tmp_path: Path) -> None:
    class Reader(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.from_file("/etc/hostname", False, 1, dtype=torch.uint8)

    path = tmp_path / "model.ts"
    torch.jit.script(Reader()).save(str(path))
    artifact(path, "torchscript", [tensor("x", ["batch"])])
    with pytest.raises(LoadError, match="could run code") as caught:
        load(path)
    assert "code that opens files" in str(caught.value)
    assert load(path, trusted=True) is not None


@pytest.mark.parametrize("form", ["by another name", "hidden behind a second member"])
def test_torchscript_that_hides_how_it_opens_files_is_refused(tmp_path: Path, form: str) -> None:
    class Writer(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.save(x, "/tmp/never")
            return x

    torch.jit.script(Writer()).save(str(tmp_path / "plain.ts"))
    path = tmp_path / "model.ts"
    with zipfile.ZipFile(tmp_path / "plain.ts") as plain, zipfile.ZipFile(path, "w") as archive:
        for name in plain.namelist():
            data = plain.read(name)
            if name.endswith("code/__torch__.py"):
                if form == "by another name":
                    data = data.replace(b"torch.save(", b"t = torch\n    t.save(")
                else:
                    archive.writestr(name, data)
                    data, name = b"", name.replace("__torch__", "__TORCH__")
            archive.writestr(name, data)
    artifact(path, "torchscript", [tensor("x", ["batch"])])
    with pytest.raises(LoadError, match="could run code"):
        load(path)


def test_onnx_through_onnxruntime_gives_the_models_numbers(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = Sum().eval()
    args, kwargs = sum_arguments(4)
    batch = torch.export.Dim("batch", min=1, max=8)
    shapes = {"a": {0: batch}, "pair": ({0: batch}, [{0: batch}]), "named": {"z": {0: batch}}, "gain": {0: batch}}
    program = torch.export.export(model, args, kwargs, dynamic_shapes=shapes)
    path = tmp_path / "model.onnx"
    names = list(program.graph_signature.user_inputs)
    torch.onnx.export(program, (), str(path), dynamo=True, verbose=False, input_names=names, external_data=False)
    artifact(path, "onnx", SUM_INPUTS, 2, signature=SUM_SIGNATURE)
    loaded = load(path)
    for size in (1, 4, 8):
        args, kwargs = sum_arguments(size)
        found, expected = loaded(*args, **kwargs), model(*args, **kwargs)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)
    with pytest.raises(LoadError, match=r"does not run on a GPU|there is none"):
        load(path, device="cuda")


def test_onnx_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(LoadError, match="onnxruntime cannot load the model"):
        load(artifact(path, "onnx", [tensor("x", ["batch"])]))
