"""The first bytes of a TensorRT engine, which say what made it, before native code sees the rest.

TensorRT-RTX: "vtrt", count of sections, u64 file size at 16, version as four bytes at 24. Found by comparing engines of
TensorRT-RTX 1.4.0.76, 1.6.1.120 and 1.7.1.116; standard TensorRT's begin with "ftrt" and are only told apart here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from trtbuild.runtime.problems import LoadError

_RTX, _STANDARD = b"vtrt", b"ftrt"
_LENGTH = 28


@dataclass(frozen=True, slots=True)
class EngineHeader:
    """`runtime` is tensorrt-rtx, tensorrt or None where neither is known; `version` None where it is not told."""

    runtime: str | None
    version: str | None


def read_header(engine: bytes | memoryview) -> EngineHeader:
    """The header of an engine. LoadError where it is an RTX engine that was cut or made longer."""
    tag = bytes(engine[:4])
    if tag == _STANDARD:
        return EngineHeader("tensorrt", None)
    if tag != _RTX or len(engine) < _LENGTH:
        return EngineHeader(None, None)
    (size,) = struct.unpack_from("<Q", engine, 16)
    if size != len(engine):
        raise LoadError(
            "The engine is not whole",
            [("bytes", f"{len(engine):,}"), ("its header says", f"{size:,}")],
            "Copy or build it again.",
        )
    return EngineHeader("tensorrt-rtx", ".".join(map(str, engine[24:28])))


def check_header(engine: bytes | memoryview, runtime: str, installed: str) -> None:
    """LoadError where the installed TensorRT is not the one that reads this engine.

    TensorRT-RTX reads engines of its own version alone, to the last number.
    """
    header = read_header(engine)
    if header.runtime is None:
        raise LoadError("The file is no TensorRT engine", [("begins with", repr(bytes(engine[:8])))])
    if header.runtime != runtime:
        raise LoadError(
            "The engine is of another TensorRT than its manifest says",
            [("engine", header.runtime), ("manifest", runtime)],
        )
    if header.version is not None and header.version != installed:
        raise LoadError(
            "The engine was made by another version of TensorRT-RTX",
            [("engine", header.version), ("installed", installed)],
            f"pip install {runtime}=={header.version}, or build the artifact with {installed}.",
        )
