"""The nodes, initializers, inputs and outputs of an ONNX model, read from its protobuf fields without the onnx package.

Field numbers are those of onnx.proto3; names of what is left out as meaningless are in `digests.onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trtbuild.digest import digest_bytes

_DTYPES = (
    *("undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16"),
    *("float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz"),
    *("float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1"),
)
_DOC_STRING_OF_ATTRIBUTE = 13
_DOC_STRING_OF_TENSOR = 12

Fields = Iterator[tuple[int, int | memoryview]]


def parts_of(data: memoryview) -> dict[str, Any]:
    """What the model holds, by name; ValueError where the bytes are no such message.

    {"nodes": {name: {"is", "attributes"}}, "initializers": {name: "<dtype> <dims> <digest>"},
    "inputs" and "outputs": {name: digest of the type}, "opsets": {domain: version}}
    """
    opsets: dict[str, int] = {}
    found: dict[str, Any] = {"nodes": {}, "initializers": {}, "inputs": {}, "outputs": {}, "opsets": opsets}
    for field, value in fields(data):
        if field == 7 and isinstance(value, memoryview):
            _graph(value, found)
        elif field == 8 and isinstance(value, memoryview):
            entry = dict(fields(value))
            opsets[_text(entry.get(1, b"")) or "ai.onnx"] = int(entry.get(2, 0))
    return found


def fields(data: memoryview) -> Fields:
    """The fields of a protobuf message: numbers, or the bytes of texts and messages. ValueError where it is none."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            number, at = _number(data, at)
            yield field, number
            continue
        if wire == 2:
            size, at = _number(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"This is no protobuf message: its wire type is {wire}.")
        if at + size > len(data):
            raise ValueError("This is a truncated protobuf message.")
        yield field, data[at : at + size]
        at += size


def _number(data: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("This is a truncated protobuf message.")


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace") if not isinstance(value, int) else ""


def _graph(data: memoryview, found: dict[str, Any]) -> None:
    for field, value in fields(data):
        if isinstance(value, int):
            continue
        if field == 1:
            name, node = _node(value)
            found["nodes"][name] = node
        elif field == 5:
            name, spec = _tensor(value)
            found["initializers"][name] = spec
        elif field in (11, 12):
            info = dict(fields(value))
            found["inputs" if field == 11 else "outputs"][_text(info.get(1, b""))] = _digest(info.get(2, b""))


def _node(data: memoryview) -> tuple[str, Mapping[str, Any]]:
    name = op = ""
    inputs, outputs, attributes = [], [], {}
    for field, value in fields(data):
        if field == 1:
            inputs.append(_text(value))
        elif field == 2:
            outputs.append(_text(value))
        elif field == 3:
            name = _text(value)
        elif field == 4:
            op = _text(value)
        elif field == 5 and isinstance(value, memoryview):
            parts = [(number, part) for number, part in fields(value) if number != _DOC_STRING_OF_ATTRIBUTE]
            label = next((_text(part) for number, part in parts if number == 1), "")
            attributes[label] = digest_bytes(
                b"".join(b"%d:%s;" % (n, bytes(p) if isinstance(p, memoryview) else b"%d" % p) for n, p in parts)
            )
    return name or ", ".join(outputs), {"is": f"{op}({', '.join(inputs)})", "attributes": attributes}


def _tensor(data: memoryview) -> tuple[str, str]:
    name, kind = "", 0
    dims: list[int] = []
    content: list[bytes] = []
    for field, value in fields(data):
        if field == 1:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif field == 2 and isinstance(value, int):
            kind = value
        elif field == 8:
            name = _text(value)
        elif field != _DOC_STRING_OF_TENSOR:
            content.append(b"%d:" % field + _digest(value).encode())
    dtype = _DTYPES[kind] if kind < len(_DTYPES) else f"type {kind}"
    return name, f"{dtype} {dims} {digest_bytes(b''.join(content))[:16]}"


def _packed(data: memoryview) -> list[int]:
    found = []
    at = 0
    while at < len(data):
        number, at = _number(data, at)
        found.append(number)
    return found


def _digest(value: Any) -> str:
    return digest_bytes(b"%d" % value if isinstance(value, int) else value)
