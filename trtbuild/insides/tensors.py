"""The tensors in a file of weights: .safetensors, or the zip that torch.save writes, read without torch.

A pickle is never run: every name that it asks for is answered by a stand-in that does nothing, and only what a plain
state dict holds is understood.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_value
from trtbuild.digests.archive import Archive, digest_payloads
from trtbuild.insides.counting import SHOWN, some
from trtbuild.stages.weights import WRAPPERS

RULE = "tensors 1"

_HEADER_LIMIT = 100_000_000
_PICKLE_LIMIT = 1 << 26
_METADATA = "__metadata__"
_DIGITS = re.compile(r"([0-9]+)")

_SAFETENSORS = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_STORAGES = {
    "BoolStorage": ("bool", 1),
    "ByteStorage": ("uint8", 1),
    "CharStorage": ("int8", 1),
    "ShortStorage": ("int16", 2),
    "IntStorage": ("int32", 4),
    "LongStorage": ("int64", 8),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8),
}


def parts_of(path: Path) -> dict[str, str]:
    """{tensor: "<dtype> <shape> <digest>"}; ValueError where the file is damaged or of another layout."""
    if path.suffix == ".safetensors":
        return _safetensors(path)
    with Archive(path) as archive:
        return _saved(archive)


def _safetensors(path: Path) -> dict[str, str]:
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        size = path.stat().st_size
        if size < 8:
            raise ValueError(f"{path.name} is truncated.")
        mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        whole = stack.enter_context(memoryview(mapped))
        length = int.from_bytes(whole[:8], "little")
        if length > min(_HEADER_LIMIT, size - 8):
            raise ValueError(f"{path.name} is truncated.")
        header = json.loads(bytes(whole[8 : 8 + length]))
        if not isinstance(header, dict):
            raise ValueError(f"{path.name} has no header.")
        start = 8 + length
        named: dict[str, str] = {}
        stretches: dict[str, memoryview] = {}
        for name, facts in header.items():
            if name == _METADATA:
                continue
            try:
                dtype, shape, (begin, end) = facts["dtype"], list(facts["shape"]), map(index, facts["data_offsets"])
            except (KeyError, TypeError) as error:
                raise ValueError(f"{path.name} says of {name} what cannot be read.") from error
            if not 0 <= begin <= end <= size - start:
                raise ValueError(f"{path.name} is truncated: {name} goes beyond its end.")
            named[name] = f"{_SAFETENSORS.get(dtype, str(dtype).lower())} {shape}"
            stretches[name] = stack.enter_context(whole[start + begin : start + end])
        digests = digest_payloads(stretches)
        found = {name: f"{spec} {digests[name][:16]}" for name, spec in named.items()}
        if _METADATA in header:
            found[_METADATA] = digest_value(header[_METADATA])[:16]
        return found


def _saved(archive: Archive) -> dict[str, str]:
    if len(pickled := archive["data.pkl"]) > _PICKLE_LIMIT:
        raise ValueError(f"{archive.path.name} pickles more than a state dict.")
    try:
        state = _Reader(io.BytesIO(pickled)).load()
    except Exception as error:  # whatever a damaged or hostile pickle makes of the stand-ins
        raise ValueError(f"{archive.path.name} is no plain state dict: {error}.") from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise ValueError(f"{archive.path.name} is no state dict.")
    tensors = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, _Tensor)}
    stretches = {name: stretch for name, tensor in tensors.items() if (stretch := tensor.stretch(archive)) is not None}
    try:
        digests = digest_payloads(stretches)
    finally:
        for view in stretches.values():
            view.release()
    return {name: f"{tensors[name].storage.dtype} {list(tensors[name].shape)} {digests[name][:16]}" for name in digests}


@dataclass(frozen=True, slots=True)
class _Storage:
    member: str
    dtype: str
    item: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: Sequence[int]
    strides: Sequence[int]

    def stretch(self, archive: Archive) -> memoryview | None:
        """The bytes from the first element to the last; None where they are not those of a plain tensor."""
        numbers = (self.offset, *self.shape, *self.strides)
        if not all(type(number) is int and number >= 0 for number in numbers) or self.storage.member not in archive:
            return None
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        elements = last + 1 if math.prod(self.shape) else 0
        start, item = self.offset * self.storage.item, self.storage.item
        payload = archive[self.storage.member]
        return payload[start : start + elements * item] if start + elements * item <= len(payload) else None


class _Inert:
    """Stands for whatever else a pickle asks for, and does nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __call__(self, *args: Any, **options: Any) -> _Inert:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, name: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Iterable[Any]) -> None:
        pass

    add = append


class _Dict(dict[Any, Any]):
    """Stands for an OrderedDict; a state dict carries attributes of its own."""


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Any:
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        return _Inert()
    return _Tensor(storage, offset, shape, strides)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


class _Reader(pickle.Unpickler):
    """Reads the pickle of a state dict; imports nothing and calls nothing but the stand-ins below."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        # Each is made anew: a pickle may set attributes of what it was given.
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *args: _tensor(*args)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda *args: _parameter(*args)
        return type("StandIn", (_Dict if name == "OrderedDict" else _Inert,), {})

    def persistent_load(self, named: Any) -> Any:
        if isinstance(named, tuple) and len(named) == 5 and named[0] == "storage" and named[1] in _STORAGES.values():
            return _Storage(f"data/{named[2]}", *named[1])
        return _Inert()


def compared(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The tensors that differ, in words."""
    before, after = _ordered(before), _ordered(after)
    common = [name for name in after if name in before and name != _METADATA]
    specs = {name: (before[name].rpartition(" ")[0], after[name].rpartition(" ")[0]) for name in common}
    reshaped = [name for name in common if specs[name][0] != specs[name][1]]
    changed = [name for name in common if before[name] != after[name] and name not in reshaped]
    said = [f"{name} {specs[name][0]} -> {specs[name][1]}" for name in reshaped[:SHOWN]]
    if len(reshaped) > SHOWN:
        said.append(f"{len(reshaped) - SHOWN} more tensors of another dtype or shape")
    if changed:
        said.append(some(changed, f"tensors (of {len(common)})"))
    for names, end in (
        ([name for name in after if name not in before], "added"),
        ([name for name in before if name not in after], "removed"),
    ):
        if tensors := [name for name in names if name != _METADATA]:
            said.append(f"{some(tensors, 'tensors')} {end}")
    if not said and before.get(_METADATA) != after.get(_METADATA):
        return ["no tensor, only its metadata"]
    return said or ["no tensor, only the layout of the file"]


def _ordered(parts: Mapping[str, str]) -> Mapping[str, str]:
    """By name, numbers in names as numbers: neither files nor notes keep the order of the model."""
    return dict(
        sorted(
            parts.items(),
            key=lambda item: [(int(p), "") if p.isascii() and p.isdigit() else (-1, p) for p in _DIGITS.split(item[0])],
        )
    )
