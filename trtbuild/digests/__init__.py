"""Digests of meaning: what an artifact says, apart from how and where it was made.

`canonical_digest` is what early cutoff compares. What cannot be read as the kind it seems to be has the sha256 of its
bytes: that is never wrong, only less often equal.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from pathlib import Path

from trtbuild.digest import digest_file
from trtbuild.digests import engine, onnx, program


def canonical_digest(path: Path) -> str:
    """The digest of a file's meaning, with its kind and rule: "program-1:<hex>", "engine-1:", "onnx-1:" or "raw:"."""
    return meaning_of(path) or f"raw:{digest_file(path)}"


def meaning_of(path: Path, known: Mapping[tuple[int, int], str] | None = None) -> str | None:
    """The same, but None where the bytes are all the meaning there is.

    `known` holds digests of stretches of the file, by their first byte and end: they are not digested again.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == engine.MAGIC:
            return f"engine-{engine.VERSION}:{_digest_engine(path, known)}"
        if magic[:2] == b"PK" and _is_program(path):
            return f"program-{program.VERSION}:{program.digest_program(path, known)}"
        # A model names places in the file of its external data, which is stored by its bytes: the two go together.
        if path.suffix == ".onnx" and not path.with_name(path.name + ".data").exists():
            return f"onnx-{onnx.VERSION}:{onnx.digest_onnx(path)}"
    except ValueError:
        pass
    return None


def _digest_engine(path: Path, known: Mapping[tuple[int, int], str] | None) -> str:
    with path.open("rb") as file:
        # Not closed: it ends with its last view, and an error's traceback may hold one.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return engine.digest_engine(memoryview(mapped), known)


def _is_program(path: Path) -> bool:
    """Whether a zip is laid out as torch.export lays a program out: TorchScript and AOTInductor write zips too."""
    try:
        with zipfile.ZipFile(path) as opened:
            parts = [name.split("/", 2)[1:] for name in opened.namelist()]
    except zipfile.BadZipFile:
        return False
    return any(len(part) == 2 and part[0] == "models" and part[1].endswith(".json") for part in parts)
