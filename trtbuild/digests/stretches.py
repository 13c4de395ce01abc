"""Where the large tensors of a file lie, for files that hold tensors as they are.

- zips with stored members (programs, TorchScript, saved weights): each large member, if not all of these are JSON;
- TensorRT-RTX engines: their weights, which are the same for other GPUs, shape ranges and TF32 or not;
- ONNX: the raw data of large initializers, in the model or in the file of its external data;
- anything else, and what cannot be read as what it seems to be: none.
Nothing depends on these being right: they only say where cutting a file in parts pays.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from trtbuild.digests import engine

# tests/bench/store.py: a ResNet-50 makes 111 parts, and a checkpoint of it with another 4.2 MB layer costs 4.7 MB. With
# 256 KiB that is 89 parts and 5.8 MB; with 16 KiB there is hardly more of either.
LARGE = 1 << 16

Stretch = tuple[int, int]

_LOCAL_HEADER = struct.Struct("<4s22xHH")
# Fields of onnx.proto.
_GRAPH, _INITIALIZER, _RAW_DATA, _EXTERNAL_DATA, _KEY, _VALUE = 7, 5, 9, 13, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def large_tensors(path: Path) -> list[Stretch]:
    """First byte and end of each large tensor of a file, in the order in which they lie."""
    size = path.stat().st_size
    if size < LARGE:
        return []
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:2] == b"PK":
                found = sorted(_in_zip(path, data))
            elif data[:4] == engine.MAGIC:
                found = list(_in_engine(data))
            elif path.suffix == ".onnx":
                found = sorted(_in_onnx(data))
            elif path.name.endswith(".onnx.data"):
                found = sorted(_in_external_data(path))
            else:
                return []
    except (OSError, ValueError, IndexError, BufferError, NotImplementedError, struct.error, zipfile.BadZipFile):
        return []
    large = [(start, stop) for start, stop in dict.fromkeys(found) if stop - start >= LARGE]
    apart = all(before[1] <= after[0] for before, after in pairwise(large))
    return large if apart and (not large or large[-1][1] <= size) else []


def cut(size: int, stretches: list[Stretch]) -> list[Stretch]:
    """A file of a size cut at its stretches: they, and all that lies between them."""
    edges = sorted({0, size, *(edge for stretch in stretches for edge in stretch)})
    return list(pairwise(edges))


def _in_zip(path: Path, data: mmap.mmap) -> Iterator[Stretch]:
    with zipfile.ZipFile(path) as opened:
        large = [
            info for info in opened.infolist() if info.compress_type == zipfile.ZIP_STORED and info.file_size >= LARGE
        ]
    # A graph beside weights is a part too: it need not change where they do. A program that is a graph alone is one.
    if all(info.filename.endswith(".json") for info in large):
        return
    for info in large:
        magic, name_size, extra_size = _LOCAL_HEADER.unpack_from(data, info.header_offset)
        start = info.header_offset + _LOCAL_HEADER.size + name_size + extra_size
        if magic == b"PK\x03\x04":
            yield start, start + info.file_size


def _in_engine(data: mmap.mmap) -> Iterator[Stretch]:
    view = memoryview(data)
    try:
        if (weights := engine.weights_of(view)) is not None:
            yield weights
    finally:
        view.release()


def _in_onnx(data: mmap.mmap) -> Iterator[Stretch]:
    for start, stop in _initializers(data):
        yield from _messages(data, (start, stop), _RAW_DATA)


def _in_external_data(path: Path) -> Iterator[Stretch]:
    model = path.with_name(path.name.removesuffix(".data"))
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for initializer in _initializers(data):
            where = {
                _text(data, entry, _KEY): _text(data, entry, _VALUE)
                for entry in _messages(data, initializer, _EXTERNAL_DATA)
            }
            if where.get("location") == path.name and "length" in where:
                start = int(where.get("offset", 0))
                yield start, start + int(where["length"])


def _initializers(data: mmap.mmap) -> Iterator[Stretch]:
    for graph in _messages(data, (0, len(data)), _GRAPH):
        yield from _messages(data, graph, _INITIALIZER)


def _text(data: mmap.mmap, message: Stretch, field: int) -> str:
    return next((data[start:stop].decode() for start, stop in _messages(data, message, field)), "")


def _messages(data: mmap.mmap, message: Stretch, field: int) -> Iterator[Stretch]:
    """Where the values of a field lie within a message of protobuf's wire format, those of bytes and messages only."""
    at, end = message
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        elif kind == _BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("a field goes beyond its message")
            if tag >> 3 == field:
                yield at, at + size
            at += size
        else:
            raise ValueError("no such kind of field")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number without an end")
