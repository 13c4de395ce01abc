"""The loader stands alone: it imports the standard library (as Windows has it), torch and TensorRT, and no more."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.runtime.samples import Affine, affine_program, artifact, tensor

PACKAGE = ROOT / "trtbuild/runtime"
# Of trtbuild itself only what says errors; of the standard library nothing that Windows lacks.
OWN = {"trtbuild.errors", "trtbuild.digest"}
NOT_ON_WINDOWS = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt", "readline"}
THEIRS = {"torch", "torch_tensorrt", "numpy"}

BLOCK = """
import builtins, sys
allowed = set(sys.stdlib_module_names) - {not_on_windows!r} | {theirs!r}
real = builtins.__import__

def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {{}}).get("__name__", "")
    if importer.startswith("trtbuild"):
        fits = name.startswith("trtbuild.runtime") or name in {own!r} or name.partition(".")[0] in allowed
        if level or not fits:
            raise ImportError(f"BLOCKED: {{importer}} imports {{name}}")
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = guarded
for name in ("networkx", "pydantic", "rich", "onnx", "tomli", "jsonschema", "safetensors"):
    if name != "networkx" or {strict!r}:
        sys.modules[name] = None
""".format


def run(script: str, *arguments: str, strict: bool = False) -> str:
    block = BLOCK(not_on_windows=NOT_ON_WINDOWS, theirs=THEIRS, own=OWN, strict=strict)
    done = subprocess.run(
        [sys.executable, "-c", block + script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_no_module_names_another_import(path: Path) -> None:
    for name in imports_of(path):
        top = name.partition(".")[0]
        own = name.startswith("trtbuild.runtime") or name in OWN
        assert own or (top in {*sys.stdlib_module_names, *THEIRS} and top not in NOT_ON_WINDOWS), name
    # Names of os that Windows does not have.
    assert not re.search(
        r"\bos\.(?:uname|fork|getuid|geteuid|sched_\w+|chown|mkfifo|sendfile|pread)\b", path.read_text()
    )


def test_importing_the_loader_imports_no_torch() -> None:
    shown = run(
        "import trtbuild, trtbuild.runtime\n"
        "from trtbuild.runtime.opening import load\nfrom trtbuild.runtime.archive_check import check_archive\n"
        "names = ('torch', 'numpy', 'networkx', 'tensorrt_rtx', 'fcntl', 'pydantic')\n"
        "print([name for name in names if sys.modules.get(name)])\n"
        "print(sorted(name for name in sys.modules if name.startswith('trtbuild.') and 'runtime' not in name))",
        strict=True,
    )
    assert shown.splitlines() == ["[]", "['trtbuild.errors']"]


LOAD = """
import torch, trtbuild
model = trtbuild.load(sys.argv[1])
x = torch.arange(8, dtype=torch.float32).reshape(2, 4)
print([round(value, 4) for value in model(x).flatten().tolist()])
"""


@pytest.mark.parametrize("format", ["exported_program", "torchscript", "onnx"])
def test_artifacts_load_and_run_with_every_other_import_blocked(tmp_path: Path, format: str) -> None:
    path, model = affine_program(tmp_path)
    if format == "torchscript":
        path = tmp_path / "model.ts"
        torch.jit.trace(Affine().eval(), torch.randn(4, 4)).save(str(path))
    elif format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        program = torch.export.load(path)
        path = tmp_path / "model.onnx"
        torch.onnx.export(program, (), str(path), dynamo=True, verbose=False, input_names=["x"], external_data=False)
    artifact(path, format, [tensor("x", ["batch", 4])])
    x = torch.arange(8, dtype=torch.float32).reshape(2, 4)
    shown = run(LOAD, str(path)).splitlines()[-1]
    assert shown == str([round(value, 4) for value in model(x).flatten().tolist()])


def test_the_guard_does_block() -> None:
    with pytest.raises(AssertionError, match=r"BLOCKED: trtbuild\.manifest imports trtbuild"):
        run("import trtbuild.manifest")
