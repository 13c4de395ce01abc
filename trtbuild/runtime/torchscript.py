"""A TorchScript artifact as a function of flat tensors."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trtbuild.runtime.archive_zip import UnsafeArchive, open_archive
from trtbuild.runtime.description import Description
from trtbuild.runtime.problems import LoadError
from trtbuild.runtime.structure import Binding, leaves

# TorchScript runs no Python, but these ops of its read and write files. A module may be called by another name there.
_FILE_OPS = re.compile(rb"\b(?:from_file|save|load_tensor|read_file|write_file)\b")


def check_torchscript(path: Path) -> None:
    """UnsafeArchive where the program's code asks for files."""
    try:
        with open(path, "rb") as file:
            archive, members = open_archive(file, compressed=True)
            for name, full in members.items():
                if name.startswith("code/") and name.endswith(".py") and _FILE_OPS.search(archive.read(full)):
                    raise UnsafeArchive(f"code that opens files: {name}")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UnsafeArchive(f"it cannot be read: {error}") from error


class Script:
    """A ScriptModule, called with flat tensors where it takes them so, else in the model's structure."""

    def __init__(self, path: Path, description: Description, device: torch.device) -> None:
        try:
            self._module = torch.jit.load(str(path), map_location=device)
        except RuntimeError as error:
            raise LoadError(
                "torch cannot load the TorchScript program",
                [("raised", str(error).strip().splitlines()[-1]), ("torch", str(torch.__version__))],
            ) from error
        self._module.eval()
        arguments = self._module.forward.schema.arguments[1:]
        self._flat = len(arguments) == len(description.inputs) and all(str(a.type) == "Tensor" for a in arguments)
        self._binding = Binding(description.parameters, len(description.inputs))

    def __call__(self, flat: Sequence[torch.Tensor]) -> list[Any]:
        """The flat outputs."""
        with torch.no_grad():
            if self._flat:
                return leaves(self._module(*flat))
            args, kwargs = self._binding.structured(flat)
            return leaves(self._module(*args, **kwargs))
