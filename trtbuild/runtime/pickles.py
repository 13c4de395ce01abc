"""Pickles inside archives, read without executing any: which globals one names, and the fields of an engine's."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from typing import Any

from trtbuild.runtime.archive_zip import UnsafeArchive

# What a pickle of tensors names. torch.load with weights_only=True takes these and more.
_TENSOR_GLOBALS = frozenset(
    {
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "collections OrderedDict",
        "torch.storage UntypedStorage",
        "torch Size",
        "torch device",
        *(
            f"torch {kind}Storage"
            for kind in re.findall(r"\w+", "Float Double Half BFloat16 Long Int Short Char Byte Bool ComplexFloat")
        ),
        *(
            f"torch {name}"
            for name in re.findall(r"\w+", "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool")
        ),
    }
)
_NAMING = ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")

_ENGINE = ("__torch__.torch.classes.tensorrt", "Engine")
_TAG = ("torch.jit._pickle", "restore_type_tag")


def check_tensors(data: bytes, name: str) -> None:
    """UnsafeArchive where a file written by torch.save holds more than tensors."""
    if not data:
        return
    for member, content in _pickles_of(data, name):
        for code in _codes(content, member):
            if code[0] == "GLOBAL" and code[1] not in _TENSOR_GLOBALS:
                raise UnsafeArchive(f"{name}: a pickle that names {str(code[1]).replace(' ', '.')}")
            if code[0] in _NAMING:
                raise UnsafeArchive(f"{name}: a pickle that names things in an unusual way ({code[0]})")


def engine_fields(data: bytes, name: str) -> list[str]:
    """The fields of a Torch-TensorRT engine that torch saved as a custom object. UnsafeArchive for anything else."""
    pickles = _pickles_of(data, name)
    if len(pickles) != 1:
        raise UnsafeArchive(f"{name}: no engine of Torch-TensorRT")
    try:
        found = _EngineUnpickler(io.BytesIO(pickles[0][1])).load()
    except UnsafeArchive:
        raise
    except Exception as error:
        raise UnsafeArchive(f"{name}: no engine of Torch-TensorRT ({error})") from error
    fields = getattr(found, "state", None)
    if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        raise UnsafeArchive(f"{name}: no engine of Torch-TensorRT")
    return fields


class _Engine:
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _untagged(value: Any, kind: str) -> Any:
    return value


class _EngineUnpickler(pickle.Unpickler):
    """Knows an engine and the tag that torch writes beside lists, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _ENGINE:
            return _Engine
        if (module, name) == _TAG:
            return _untagged
        raise UnsafeArchive(f"a custom object that is no engine: {module}.{name}")

    def persistent_load(self, _: Any) -> Any:
        raise UnsafeArchive("a custom object with tensors")


def _pickles_of(data: bytes, name: str) -> list[tuple[str, bytes]]:
    """The pickles of a file by torch.save: a zip of its own."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise UnsafeArchive(f"{name}: a pickle in torch's old form") from error
    if any("/code/" in member or member.endswith("constants.pkl") for member in names):
        raise UnsafeArchive(f"{name}: a TorchScript program")
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise UnsafeArchive(f"{name}: compressed")
    return [(member, archive.read(member)) for member in names if member.endswith(".pkl")]


def _codes(data: bytes, name: str) -> list[tuple[str, Any]]:
    try:
        return [(code.name, argument) for code, argument, _ in pickletools.genops(data)]
    except Exception as error:
        raise UnsafeArchive(f"{name}: a damaged pickle") from error
