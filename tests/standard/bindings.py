"""TensorRT's Python bindings without TensorRT: importable to be looked at, and able to do nothing.

A wheel of the bindings holds a compiled module that wants three libraries, of which it takes few functions. Libraries
with functions of these names that do nothing are enough to import it, and classes, methods and docstrings are there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# What the module takes of them: factories and registries, by names of C.
_WANTED = re.compile(rb"\0(create\w+_INTERNAL|get\w*PluginRegistry|getNvOnnxParserVersion|initLibNvInferPlugins)(?=\0)")
_LIBRARY = re.compile(rb"\0(lib(?:nvinfer|nvinfer_plugin|nvonnxparser|tensorrt\w*)\.so\.\d+)(?=\0)")


@dataclass(frozen=True)
class Bindings:
    """An importable module of TensorRT: its full name, and the environment in which Python finds it."""

    module: str
    environment: Mapping[str, str] = field(default_factory=dict)


def from_wheel(wheel: Path, folder: Path) -> Bindings:
    """Unpack a wheel of the bindings into a folder and compile empty libraries beside it. Needs a C compiler.

    SystemExit says what is wrong with the wheel or the machine.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    found = sorted(folder.glob("*/*.so"))
    if len(found) != 1:
        raise SystemExit(f"{wheel.name} is no wheel of TensorRT's bindings: {len(found)} compiled modules in it")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("The empty libraries need a C compiler, and there is none")
    (module,) = found
    data = module.read_bytes()
    libraries = folder / "empty"
    libraries.mkdir()
    functions = sorted({name.decode() for name in _WANTED.findall(data)})
    source = libraries / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
    for name in sorted({name.decode() for name in _LIBRARY.findall(data)}):
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(libraries / name), str(source)]
        subprocess.run(command, check=True)
    return Bindings(
        f"{module.parent.name}.{module.name.partition('.')[0]}",
        {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(folder)},
    )
