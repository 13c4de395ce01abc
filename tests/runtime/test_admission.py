"""What is refused before native code sees the file, and in which words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.runtime.samples import affine_program, artifact, edit_manifest, tensor
from trtbuild.runtime import InputError, LoadError, admission, load, machine, opening
from trtbuild.runtime.engine_header import check_header, read_header


def header(version: tuple[int, int, int, int] = (1, 6, 1, 120), body: bytes = b"") -> bytes:
    """A file that begins as an RTX engine does."""
    start = b"vtrt" + bytes(4) + (2).to_bytes(8, "little")
    return start + (28 + len(body)).to_bytes(8, "little") + bytes(version) + body


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine for 8.9 by RTX 1.6.1.120, and its manifest."""
    path = tmp_path / "model.engine"
    path.write_bytes(header(body=b"engine"))
    return artifact(
        path,
        "engine",
        [tensor("x", ["batch", 3])],
        target={
            "name": "linux",
            "platform": "linux-x86_64",
            "runtime": "tensorrt-rtx",
            "device": "cuda",
            "compute_capability": ["8.6", "8.9"],
        },
        toolchain={"tensorrt-rtx": "1.6.1.120", "torch": "2.14.1"},
        whole_engine={"engine": "e", "inputs": ["x"], "outputs": ["output0"]},
    )


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an RTX 4090 and RTX 1.6.1.120, as far as the checks ask."""
    monkeypatch.setattr(machine, "this_platform", lambda: "linux-x86_64")
    monkeypatch.setattr(machine, "cuda_device", lambda asked: torch.device("cuda", 0))
    monkeypatch.setattr(machine, "capability", lambda device: "8.9")
    monkeypatch.setattr(machine, "gpu_name", lambda device: "RTX 4090")
    monkeypatch.setattr(machine, "import_tensorrt", lambda name, wanted: SimpleNamespace(__version__="1.6.1.120"))
    monkeypatch.setattr(opening, "_backend", lambda *arguments: SimpleNamespace(engines={}, kept=1))


def refusal(path: Path, said: str, **options: Any) -> str:
    with pytest.raises(LoadError, match=said) as caught:
        load(path, **options)
    return str(caught.value)


def test_what_fits_is_opened(engine: Path, on_gpu: None) -> None:
    assert load(engine).device == torch.device("cuda", 0)


def test_no_file_no_manifest_no_json(engine: Path, tmp_path: Path) -> None:
    assert "none.engine" in refusal(tmp_path / "none.engine", "no such file")
    (tmp_path / "manifest.json").write_text("{")
    refusal(engine, "manifest cannot be read")
    (tmp_path / "manifest.json").write_text("[]")
    refusal(engine, "manifest cannot be read")
    (tmp_path / "manifest.json").unlink()
    assert "copy the whole folder" in refusal(engine, "no manifest beside")


def test_a_changed_file_is_refused_first(engine: Path) -> None:
    before = hashlib.sha256(engine.read_bytes()).hexdigest()
    engine.write_bytes(header(body=b"Engine"))
    said = refusal(engine, "not the one that its manifest tells of")
    assert before in said and hashlib.sha256(engine.read_bytes()).hexdigest() in said


def test_a_file_whose_digest_nobody_recorded_is_refused(engine: Path, on_gpu: None) -> None:
    edit_manifest(engine, lambda manifest: manifest["files"][0].pop("digest"))
    with pytest.raises(LoadError, match="no digest"):
        load(engine)


def test_a_changed_file_beside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model")
    artifact(tmp_path / "model.onnx", "onnx", [])
    data = {"format": "onnx", "path": "model.onnx.data", "digest": f"sha256:{'0' * 64}", "bytes": 1}
    edit_manifest(tmp_path / "model.onnx", lambda manifest: manifest["files"].append(data))
    refusal(tmp_path / "model.onnx", "cannot be read")
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    assert "model.onnx.data" in refusal(tmp_path / "model.onnx", "not the one that its manifest tells of")


def test_no_gpu(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "nvidia-smi" in refusal(engine, "runs on a GPU, and there is none")


def test_no_torch(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert "pip install torch==2.14.1" in refusal(engine, "torch is not installed")


def test_no_tensorrt_or_the_other_one(engine: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(machine, "cuda_device", lambda asked: torch.device("cuda", 0))
    monkeypatch.setattr(machine, "capability", lambda device: "8.9")
    found = {"torch", "tensorrt"}
    monkeypatch.setattr(machine, "find_spec", lambda name: object() if name in found else None)
    said = refusal(engine, "needs tensorrt-rtx, which is not installed")
    assert "pip install tensorrt-rtx==1.6.1.120" in said and "tensorrt, which reads other engines" in said


def test_another_version_of_tensorrt(engine: Path, on_gpu: None) -> None:
    edit_manifest(engine, lambda manifest: manifest["toolchain"].update({"tensorrt-rtx": "1.4.0.76"}))
    said = refusal(engine, "another version of tensorrt-rtx")
    assert "1.4.0.76" in said and "1.6.1.120" in said and "pip install tensorrt-rtx==1.4.0.76" in said


def test_another_gpu(engine: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "capability", lambda device: "9.0")
    monkeypatch.setattr(machine, "gpu_name", lambda device: "H200")
    said = refusal(engine, "not built for this GPU")
    assert "H200, compute capability 9.0" in said and "8.6, 8.9" in said and "other_gpu=True" in said
    assert load(engine, other_gpu=True) is not None


@pytest.mark.parametrize(
    ("format", "runtime", "said"),
    [
        ("exported_program", "tensorrt-rtx", "program is for another platform"),
        ("torchscript", "tensorrt-rtx", "engines are for another platform"),
        ("aot_inductor", "torch", "native code for another platform"),
        ("engine", "tensorrt", "engine is for another platform"),
        ("engine", "tensorrt-rtx", None),
        ("exported_program", "torch", None),
        ("torchscript", "torch", None),
        ("onnx", "torch", None),
    ],
)
@pytest.mark.parametrize(("built", "here"), [("windows-x86_64", "linux-x86_64"), ("linux-x86_64", "windows-x86_64")])
def test_platforms(
    engine: Path, monkeypatch: pytest.MonkeyPatch, format: str, runtime: str, said: str | None, built: str, here: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"] |= {"platform": built, "runtime": runtime}
        manifest["files"][0]["format"] = format

    edit_manifest(engine, change)
    monkeypatch.setattr(machine, "this_platform", lambda: here)
    description = opening.Description.from_manifest(opening._manifest(engine), engine.name)
    may = admission.Permissions()
    if said is None:
        admission.check_platform(description, may)
        return
    with pytest.raises(LoadError, match=said) as caught:
        admission.check_platform(description, may)
    assert built in str(caught.value) and here in str(caught.value)
    only_verified = admission.Permissions(for_verification=True)
    if format == "exported_program":
        assert "for_verification=True" in str(caught.value)
        admission.check_platform(description, only_verified)
    else:
        with pytest.raises(LoadError):
            admission.check_platform(description, only_verified)


@pytest.mark.parametrize(
    ("format", "built", "here", "said"),
    [
        ("exported_program", "2.14.1", "2.11.0", "saved by a newer torch"),
        ("torchscript", "2.14.1", "2.13.2", "saved by a newer torch"),
        ("exported_program", "2.11.0", "2.14.1", None),
        ("exported_program", "2.14.0", "2.14.1", None),
        ("exported_program", "2.9.0", "2.14.1", None),
        ("aot_inductor", "2.11.0", "2.14.1", "compiled against another torch"),
        ("aot_inductor", "2.14.1", "2.14.0", None),
        ("engine", "2.14.1", "2.11.0", None),
        ("onnx", "2.14.1", "2.11.0", None),
    ],
)
def test_versions_of_torch(
    engine: Path, monkeypatch: pytest.MonkeyPatch, format: str, built: str, here: str, said: str | None
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["toolchain"]["torch"] = built
        manifest["files"][0]["format"] = format

    edit_manifest(engine, change)
    monkeypatch.setattr(machine, "torch_version", lambda: here)
    description = opening.Description.from_manifest(opening._manifest(engine), engine.name)
    if said is None:
        admission.check_torch(description)
        return
    with pytest.raises(LoadError, match=said) as caught:
        admission.check_torch(description)
    assert built in str(caught.value) and here in str(caught.value) and "pip install torch" in str(caught.value)


def test_devices(engine: Path, tmp_path: Path) -> None:
    assert "built for" in refusal(engine, "runs on a GPU only", device="cpu")
    assert "asked" in refusal(engine, "no such device", device="gpu0")
    folder = tmp_path / "program"
    folder.mkdir()
    program, _ = affine_program(folder)
    refusal(program, "runs on the CPU only", device="cuda")
    assert load(program, device="cpu").device == torch.device("cpu")


def test_aot_inductor_is_opened_only_where_trusted(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"PK\x03\x04 native code")
    artifact(path, "aot_inductor", [])
    said = refusal(path, "native code, and runs as soon as it is opened")
    assert "trusted=True" in said
    refusal(path, "cannot load the AOTInductor package", trusted=True)


def test_only_engines_are_cuda_graphs(tmp_path: Path) -> None:
    program, _ = affine_program(tmp_path)
    refusal(program, "Only raw engines", cuda_graph=True)


def test_headers_of_engines() -> None:
    assert read_header(header()).version == "1.6.1.120"
    check_header(header(), "tensorrt-rtx", "1.6.1.120")
    refused: list[tuple[Callable[[], None], str]] = [
        (lambda: check_header(header(), "tensorrt-rtx", "1.4.0.76"), "another version of TensorRT-RTX"),
        (lambda: check_header(header(body=b"body")[:-1], "tensorrt-rtx", "1.6.1.120"), "not whole"),
        (lambda: check_header(header() + b"x", "tensorrt-rtx", "1.6.1.120"), "not whole"),
        (lambda: check_header(header(), "tensorrt", "10.1.0"), "another TensorRT than its manifest says"),
        (lambda: check_header(b"ftrt" + bytes(60), "tensorrt-rtx", "1.6.1.120"), "another TensorRT than"),
        (lambda: check_header(b"PK\x03\x04" + bytes(60), "tensorrt-rtx", "1.6.1.120"), "no TensorRT engine"),
        (lambda: check_header(b"", "tensorrt-rtx", "1.6.1.120"), "no TensorRT engine"),
    ]
    for call, said in refused:
        with pytest.raises(LoadError, match=said):
            call()
    check_header(b"ftrt" + bytes(60), "tensorrt", "10.1.0")


def test_errors_say_all_in_their_message() -> None:
    error = InputError("A sentence", [("name", "fact")], "a hint")
    assert str(error) == "A sentence\n  name  fact\nhint: a hint"
