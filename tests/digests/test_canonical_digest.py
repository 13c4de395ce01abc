from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from digest_samples import MakeEngine, SaveProgram

from trtbuild.digests import canonical_digest
from trtbuild.digests.engine import digest_engine
from trtbuild.digests.program import digest_program


def raw(path: Path) -> str:
    return f"raw:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_kind_is_told_by_content(save_program: SaveProgram, make_engine: MakeEngine, tmp_path: Path) -> None:
    program = save_program()
    assert canonical_digest(program) == f"program-1:{digest_program(program)}"
    renamed = program.rename(tmp_path / "anything.bin")
    assert canonical_digest(renamed) == f"program-1:{digest_program(renamed)}"
    engine = tmp_path / "m.bin"
    engine.write_bytes(make_engine("mlp"))
    assert canonical_digest(engine) == f"engine-1:{digest_engine(engine.read_bytes())}"


def test_onnx_is_told_by_its_suffix(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([], "g", [value], [value])
    path = tmp_path / "m.onnx"
    onnx.save_model(onnx.helper.make_model(graph), str(path))
    assert canonical_digest(path).startswith("onnx-1:")


def test_torchscript_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "m.ts"
    torch.jit.trace(torch.nn.ReLU(), torch.ones(1)).save(path)
    assert canonical_digest(path) == raw(path)


def test_what_cannot_be_read_has_the_digest_of_its_bytes(make_engine: MakeEngine, tmp_path: Path) -> None:
    engine = make_engine("mlp")
    for name, data in {
        "empty": b"",
        "text.toml": b"a = 1\n",
        "cut.engine": engine[:-1],
        "short.engine": b"vtrt",
        "plan.engine": b"ptrt" + bytes(90),
        "no.onnx": b"\xff" * 40,
        "no.pt2": b"PK\x03\x04" + bytes(90),
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert canonical_digest(path) == raw(path)


def test_a_program_that_no_one_can_trust_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("m/models/model.json", "{}")
    assert canonical_digest(path) == raw(path)


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        canonical_digest(tmp_path / "gone")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, trtbuild.digests, trtbuild.digests.archive\n"
        "print([name for name in ('torch', 'onnx', 'numpy', 'tensorrt_rtx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
