"""Type stubs of a TensorRT module, made by mypy's stubgen of what the module says of itself, and mended.

What is mended is what pybind11's signatures leave out and TensorRT's documentation says: Dims are made of any sequence
and behave like tuples, host memory is a buffer, and what an application implements stands in the class's docstring.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.standard.bindings import Bindings

# What a class's docstring shows to be implemented: "        def notify_shape(self, tensor_name, shape):".
_SHOWN = re.compile(r"^\s+def (\w+)\(self(?:, ([\w, ]+))?\):", re.MULTILINE)

_ASK = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
package = importlib.import_module(sys.argv[1].partition(".")[0])
docs = {name: str(value.__doc__) for name, value in vars(module).items() if isinstance(value, type)}
print(json.dumps({"version": package.__version__, "docs": docs}))
"""


def stubs_of(bindings: Bindings, folder: Path) -> tuple[str, str]:
    """Version and stubs of a module, which is imported in a process of its own."""
    environment = {**os.environ, **bindings.environment}
    asked = subprocess.run(
        [sys.executable, "-c", _ASK, bindings.module], env=environment, capture_output=True, text=True, check=True
    )
    told = json.loads(asked.stdout.splitlines()[-1])
    generate = "from mypy.stubgen import main; main()"
    subprocess.run(
        [sys.executable, "-c", generate, "--inspect-mode", "-q", "-m", bindings.module, "-o", str(folder)],
        env=environment,
        check=True,
    )
    text = (folder / f"{bindings.module.replace('.', '/')}.pyi").read_text()
    return told["version"], mended(text.replace(f"{bindings.module}.", ""), told["docs"])


def mended(text: str, docs: dict[str, str]) -> str:
    """Stubs as mypy takes them, with what only documentation says put in."""
    # `trt.bool` is a data type, and would be meant by every `-> bool`.
    text = re.sub(r"^bool: DataType\n", "", text, flags=re.MULTILINE)
    # What pybind11 takes for an int; what it gives to methods of an application's is one.
    text = text.replace("typing.SupportsInt", "int")
    text = _without_early_defaults(text)
    text = re.sub(r"\b(\w+): Dims(?=[,) ])", r"\1: Dims | typing.Sequence[int]", text)
    # pybind11 has no name for the result, which the parser's documentation gives.
    text = text.replace("def get_error(self, *args, **kwargs)", "def get_error(self, index: int) -> ParserError")
    # "Pass ``None`` to unset the output allocator."
    text = text.replace("output_allocator: IOutputAllocator)", "output_allocator: IOutputAllocator | None)")
    text = text.replace("import typing\n", "import typing\n__version__: str\n", 1)
    added = {
        "Dims": ["def __iter__(self) -> typing.Iterator[int]: ..."],
        "IHostMemory": ["def __buffer__(self, flags: int, /) -> memoryview: ..."],
    }
    for name, doc in docs.items():
        for method, parameters in _SHOWN.findall(doc):
            given = f"{parameters}, /" if parameters else ""
            added.setdefault(name, []).append(f"def {method}(self, {given}): ...")
    for name, methods in added.items():
        text = _with_methods(text, name, methods)
    ast.parse(text)
    # Of themselves such stubs are not in order: overloads that cover each other, layers whose `type` is another.
    return f"# mypy: ignore-errors\n{text}"


def _without_early_defaults(text: str) -> str:
    """pybind11 lets a parameter without a default follow one that has one, which then is none."""
    while True:
        try:
            ast.parse(text)
        except SyntaxError as error:
            lines = text.splitlines(keepends=True)
            line = lines[(error.lineno or 1) - 1]
            lines[(error.lineno or 1) - 1] = re.sub(r" = [^,)]+(?=[,)])", "", line)
            if line == lines[(error.lineno or 1) - 1]:
                raise
            text = "".join(lines)
        else:
            return text


def _with_methods(text: str, name: str, methods: list[str]) -> str:
    """The stubs with methods put into a class, those that it has not."""
    found = re.search(rf"^class {name}\b.*:\n(?:(?: .*)?\n)*", text, re.MULTILINE)
    if found is None:
        return text
    there = set(re.findall(r"^    def (\w+)\(", found[0], re.MULTILINE))
    wanted = [method for method in methods if re.split(r"[ (]", method)[1] not in there]
    head, _, body = found[0].partition("\n")
    return text.replace(found[0], "\n".join([head, *(f"    {method}" for method in wanted), body]), 1)
