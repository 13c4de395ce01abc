"""An engine as the constant of a saved program: the bytes of Torch-TensorRT's engine object, written without a GPU.

Torch saves such an object as a small archive of its own, `data.pkl` in it as torch::jit::Pickler writes it: the class,
and its state, a list of texts (`__getstate__` of core/runtime/register_jit_hooks.cpp): the fields of the placeholder
that the portable program holds in the engine's place, with the engine as base64 text. Making the object itself would
load the engine onto a GPU. Read back by torch, this archive makes the same object; written by torch, that object makes
these very bytes.

Source: torch/csrc/jit/serialization/pickler.cpp and pickle.cpp; core/runtime of Torch-TensorRT.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

from trtbuild.digests.archive import write_archive

_CLASS = b"c__torch__.torch.classes.tensorrt\nEngine\n"
_TYPED = b"ctorch.jit._pickle\nrestore_type_tag\n"

# The root folder, the format's version and the first half of the id, a hash of the members' names, as torch writes
# them for an object whose state holds no tensor.
_ROOT = "archive"
_VERSION = b"3\n"
_NAMES_HASH = "11768102982723388384"

_LONG = 1 << 32


def engine_object(fields: Sequence[bytes]) -> bytes:
    """The archive of an engine object whose state are these fields, in order, the engine already in base64."""
    members = {"data.pkl": _pickled(fields), "version": _VERSION, "byteorder": b"little"}
    combined = 0
    for data in members.values():
        combined = _hash_combine(combined, zlib.crc32(data))
    members[".data/serialization_id"] = f"{_NAMES_HASH}{combined:020d}".encode()
    file = io.BytesIO()
    write_archive(file, ((f"{_ROOT}/{name}", data) for name, data in members.items()))
    return file.getvalue()


def _pickled(fields: Sequence[bytes]) -> bytes:
    """torch.jit's pickle of an object with a list of texts as its state; a text that comes again is remembered."""
    memo: dict[bytes, int] = {}
    # The class is remembered as 0, the function that gives a list its type back as 1.
    parts = [b"\x80\x02", _CLASS, b"q\x00", b")\x81", _TYPED, b"q\x01", b"]("]
    for text in fields:
        if text in memo:
            parts.append(_memo(b"h", b"j", memo[text]))
        else:
            memo[text] = 2 + len(memo)
            parts += [_text(text), _memo(b"q", b"r", memo[text])]
    last = 2 + len(memo)
    # The name of the list's type, the list and the object are remembered too.
    parts += [b"e", _text(b"List[str]"), _memo(b"q", b"r", last), b"\x86R", _memo(b"q", b"r", last + 1)]
    parts += [b"b", _memo(b"q", b"r", last + 2), b"."]
    return b"".join(parts)


def _text(text: bytes) -> bytes:
    head = b"X" + struct.pack("<I", len(text)) if len(text) < _LONG else b"\x8d" + struct.pack("<Q", len(text))
    return head + text


def _memo(short: bytes, long: bytes, index: int) -> bytes:
    return short + bytes([index]) if index < 256 else long + struct.pack("<I", index)


def _hash_combine(seed: int, value: int) -> int:
    mixed = value + 0x9E3779B9 + (seed << 6) + (seed >> 2)
    return (seed ^ mixed) & 0xFFFF_FFFF_FFFF_FFFF
