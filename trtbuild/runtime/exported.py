"""A saved torch.export program with engines inside, or without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from trtbuild.errors import TrtbuildError
from trtbuild.runtime.backends import FunctionBackend
from trtbuild.runtime.description import Description
from trtbuild.runtime.embedded import Reader, take_out
from trtbuild.runtime.engine_header import check_header
from trtbuild.runtime.partition import by_tensorrt, by_torch_tensorrt, torch_tensorrt
from trtbuild.runtime.problems import LoadError
from trtbuild.runtime.program import open_program


def open_exported(
    path: Path, description: Description, device: torch.device, trt: Any, *, trusted: bool
) -> FunctionBackend:
    """The program, its engines run by Torch-TensorRT where that is installed, else by TensorRT's Python runtime."""
    if trt is None and (device.type == "cpu" or device.index == 0):
        with _damage(path):
            return FunctionBackend(open_program(path, description, {}, None, trusted=trusted), description)
    runtime = description.target.runtime
    installed = trt is not None and torch_tensorrt(runtime)
    try:
        with _damage(path):
            found = take_out(path, (device.type, device.index))
    except LoadError:
        if not (trusted and installed):
            raise
        return FunctionBackend(open_program(path, description, {}, None, trusted=True), description)
    engines: dict[str, Any] = {}
    make = partial(_make, trt, runtime, device, installed, engines) if trt is not None else None
    with _damage(path):
        program = open_program(found.program, description, found.engines, make, trusted=trusted)
    return FunctionBackend(program, description, engines)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What the check of archives let pass and still is not in the form of a program."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, SyntaxError, BadZipFile) as error:
        if isinstance(error, TrtbuildError):
            raise
        raise LoadError(
            "The program is damaged", [("file", str(path)), ("at", f"{type(error).__name__}: {error}")]
        ) from error


def _make(
    trt: Any, runtime: str, device: torch.device, installed: bool, engines: dict[str, Any], read: Reader
) -> torch.nn.Module:
    fields = read()
    check_header(fields.engine, runtime, str(trt.__version__))
    if installed:
        return by_torch_tensorrt(fields, device)
    module = by_tensorrt(trt, fields, device)
    engines[fields.name] = module.engine.engine
    return module
