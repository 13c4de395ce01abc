"""The check finds what is wrong, and trtbuild's code fits the TensorRT that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.standard.bindings import Bindings, from_wheel
from tests.standard.check import PACKAGE
from tests.standard.checking import check
from tests.standard.declared import NOT_STANDARD, SOME_HAVE, TYPES, Absent
from tests.standard.stubs import mended, stubs_of
from tests.standard.typed_copy import UndeclaredError, typed, uncovered

STUBS = """
import typing

class Dims: ...
class ITensor:
    name: str
class IEngine:
    num_tensors: int
    def tensor(self, index: int) -> ITensor: ...
    def run_on(self, stream: int, wait: bool = ...) -> bool: ...
    def odd(self, *args, **kwargs): ...
class Level:
    HIGH: typing.ClassVar[Level]
"""

HEAD = "from __future__ import annotations\n\nfrom typing import Any\n\n\n"
HEAD += "def use(trt: Any, engine: Any, other: Any) -> Any:\n    "

# PyModuleDef of Python.h, which not every machine has.
MODULE = """
void *createInferBuilder_INTERNAL(void);
void *PyModule_Create2(void *, int);
static struct {
    long count; void *type, *init; long index; void *copy; const char *name, *doc; long size; void *rest[5];
} def = {1, 0, 0, 0, 0, "tensorrt", 0, -1, {0}};
void *PyInit_tensorrt(void) { return createInferBuilder_INTERNAL() ? 0 : PyModule_Create2(&def, 1013); }
"""


def checked(folder: Path, line: str, *absent: Absent) -> list[str]:
    """What is said of a function of one line, whose `engine` is declared."""
    (folder / "sample").mkdir()
    (folder / "sample/code.py").write_text(f"{HEAD}{line}\n")
    outcome = check(folder / "sample", mended(STUBS, {}), {"code.py": {"use.engine": "_trt.IEngine"}}, absent)
    return [f"{problem.line} {problem.function}: {problem.text}" for problem in outcome.problems]


@pytest.mark.parametrize(
    ("line", "problem"),
    {
        "right": ("return [engine.tensor(i).name for i in range(engine.num_tensors)], engine.run_on(1, wait=True)", ""),
        "misspelt": (
            "return engine.num_tensor",
            '7 use: "IEngine" has no attribute "num_tensor"',
        ),
        "misspelt in the module": ("return trt.Levle.HIGH", '7 use: Module has no attribute "Levle"'),
        "misspelt member": ("return trt.Level.HIHG", '7 use: "type[Level]" has no attribute "HIHG"'),
        "misspelt of a result": ("return engine.tensor(0).nmae", '7 use: "ITensor" has no attribute "nmae"'),
        "too many": ("return engine.run_on(1, True, 2)", '7 use: Too many arguments for "run_on" of "IEngine"'),
        "too few": ("return engine.tensor()", '7 use: Missing positional argument "index" in call to "tensor"'),
        "keyword": ("return engine.run_on(1, waits=True)", '7 use: Unexpected keyword argument "waits" for "run_on"'),
        "wrong type": ("return engine.tensor('x')", '7 use: Argument 1 to "tensor" of "IEngine" has incompatible type'),
        "undeclared": ("return other.run_on(1)", '7 use: "run_on" of an object of no declared'),
        "set": ("engine.num_tensors = 'x'", "7 use: Incompatible types in assignment"),
    }.values(),
)
def test_what_is_wrong_is_found(tmp_path: Path, line: str, problem: str) -> None:
    found = checked(tmp_path, line)
    assert len(found) == bool(problem) and all(one.startswith(problem) for one in found)


def test_names_said_to_be_absent_must_be(tmp_path: Path) -> None:
    absent = Absent("code.py", "use", "config", "a reason")
    assert checked(tmp_path, "return engine.config", absent) == []
    shutil.rmtree(tmp_path / "sample")
    (said,) = checked(tmp_path, "return engine.num_tensors", absent)
    assert said == "0 use: config is said to be absent, and is there or not asked for"


def test_a_call_without_a_signature_is_no_call_that_was_checked(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample/code.py").write_text(f"{HEAD}return engine.odd(1), engine.tensor(0)\n")
    outcome = check(tmp_path / "sample", mended(STUBS, {}), {"code.py": {"use.engine": "_trt.IEngine"}})
    assert (outcome.unsigned, outcome.calls) == ({"IEngine.odd"}, 1)
    assert outcome.names == {"IEngine.odd", "IEngine.tensor"}


def test_a_declaration_without_a_place_is_an_error() -> None:
    with pytest.raises(UndeclaredError, match=r"use\.context"):
        typed(HEAD + "return engine", {"use.context": "_trt.IEngine"})


def test_a_copy_keeps_its_lines() -> None:
    source = (PACKAGE / "runtime/engine.py").read_text()
    assert len(typed(source, TYPES["runtime/engine.py"]).splitlines()) == len(source.splitlines())


def test_every_file_that_talks_to_tensorrt_is_declared() -> None:
    assert uncovered(PACKAGE, TYPES) == []
    assert uncovered(PACKAGE, {}) != []


def test_the_code_fits_the_tensorrt_that_is_installed(tmp_path: Path) -> None:
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    version, stubs = stubs_of(Bindings("tensorrt_rtx_bindings.tensorrt_rtx"), tmp_path)
    outcome = check(PACKAGE, stubs, TYPES, SOME_HAVE)
    assert version.count(".") >= 2
    assert outcome.problems == [] and outcome.unsigned == set()
    # What standard TensorRT has not is RTX's.
    assert {"IBuilderConfig.set_compute_capability", "ComputeCapability"} <= outcome.names
    assert {"ICudaEngine.get_tensor_profile_shape", "IExecutionContext.execute_async_v3"} <= outcome.names
    assert outcome.calls >= 60
    assert {one.name for one in NOT_STANDARD} <= {name.rpartition(".")[2] for name in outcome.names}


def test_bindings_are_imported_without_their_libraries(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    package = tmp_path / "made/tensorrt_bindings"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from tensorrt_bindings import tensorrt\n__version__ = '11.0.0.1'\n")
    library, module = tmp_path / "libnvinfer.so.11", package / "tensorrt.so"
    (tmp_path / "library.c").write_text(
        "void *createInferBuilder_INTERNAL(void) { return &createInferBuilder_INTERNAL; }"
    )
    (tmp_path / "module.c").write_text(MODULE)
    shared = [compiler, "-shared", "-fPIC"]
    subprocess.run([*shared, f"-Wl,-soname,{library.name}", "-o", library, tmp_path / "library.c"], check=True)
    subprocess.run([*shared, "-o", module, tmp_path / "module.c", library], check=True)
    library.unlink()
    wheel = tmp_path / "bindings.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in package.iterdir():
            archive.write(file, f"tensorrt_bindings/{file.name}")
    bindings = from_wheel(wheel, tmp_path / "unpacked")
    assert bindings.module == "tensorrt_bindings.tensorrt"
    asked = f"import {bindings.module} as trt; print(trt.__name__)"
    environment = {**os.environ, **bindings.environment}
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "tensorrt_bindings.tensorrt\n"


def test_a_wheel_of_something_else_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(SystemExit, match="0 compiled modules"):
        from_wheel(tmp_path / "other.whl", tmp_path / "unpacked")


def test_what_only_documentation_says_is_in_the_stubs() -> None:
    docs = {"IAllocator": "Implement it:\n\n    def notify(self, name, shape):\n        ...\n"}
    text = "import typing\nbool: DataType\nclass IAllocator:\n    def __init__(self) -> None: ...\n"
    text += "class Dims:\n    def __len__(self) -> int: ...\n"
    text += "def shape(a: Dims, b: int = ..., c: typing.SupportsInt) -> bool: ...\n"
    made = mended(text, docs)
    assert "    def notify(self, name, shape, /): ...\n" in made and "\nbool:" not in made
    assert "def shape(a: Dims | typing.Sequence[int], b: int, c: int) -> bool: ..." in made
    assert "    def __iter__(self) -> typing.Iterator[int]: ...\n" in made
