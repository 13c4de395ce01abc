"""Digest of an ONNX model's meaning.

In the digest: nodes with their names, operators, attributes and order; inputs and outputs; initializers by name, type,
dims and bytes, wherever the bytes are kept; operator sets; functions; the IR version.
Out: doc_string, metadata_props (stack traces, class names), producer, domain and version of the model, the graph's
name, value_info (shapes that follow from the rest), the order of initializers, attributes and operator sets, and the
name of the file that external data lies in. TensorRT reads none of these.
"""

from __future__ import annotations

import mmap
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_bytes, digest_value
from trtbuild.digests.archive import digest_payloads

VERSION = 1


def digest_onnx(path: Path) -> str:
    """The digest of an ONNX model's meaning, in hex; ValueError where it or its external data cannot be read."""
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise ValueError(f"{path.name} is no ONNX model: {error}.") from error
    _replace_tensors(model, path.parent)
    _strip_model(model)
    content = digest_bytes(model.SerializeToString(deterministic=True))
    return digest_value({"digest": "onnx", "version": VERSION, "model": content})


def _tensors(message: Any) -> Any:
    """Every TensorProto within a message, at any depth."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if _repeated(value) else [value]:
            if item.DESCRIPTOR.name == "TensorProto":
                yield item
            else:
                yield from _tensors(item)


def _repeated(value: Any) -> bool:
    return hasattr(value, "__len__") and not hasattr(value, "DESCRIPTOR")


def _contents(tensors: list[Any], folder: Path) -> list[str]:
    """The digest of each tensor's bytes: external files are mapped, and hashed by several threads."""
    from onnx import TensorProto

    with ExitStack() as stack:
        files: dict[str, memoryview] = {}
        parts: dict[int, memoryview] = {}
        for index, tensor in enumerate(tensors):
            if tensor.data_location == TensorProto.EXTERNAL:
                parts[index] = _external(tensor, folder, files, stack)
                stack.callback(parts[index].release)
        external = digest_payloads(parts)
    return [external[index] if index in external else _inline(tensor) for index, tensor in enumerate(tensors)]


def _external(tensor: Any, folder: Path, files: dict[str, memoryview], stack: ExitStack) -> memoryview:
    where = {entry.key: entry.value for entry in tensor.external_data}
    location = where.get("location", "")
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise ValueError(f"The tensor {tensor.name} lies in {location!r}, outside of the model's folder.")
    if location not in files:
        files[location] = _mapped(folder / location, tensor.name, stack)
    data = files[location]
    start = int(where.get("offset", 0))
    stop = start + int(where["length"]) if "length" in where else len(data)
    if not 0 <= start <= stop <= len(data):
        raise ValueError(
            f"The external data {location} is truncated: {tensor.name} ends at {stop} of {len(data)} bytes."
        )
    return data[start:stop]


def _inline(tensor: Any) -> str:
    if tensor.HasField("raw_data"):
        return digest_bytes(tensor.raw_data)
    if tensor.string_data:
        return digest_value([text.hex() for text in tensor.string_data])
    from onnx import numpy_helper

    return digest_bytes(numpy_helper.to_array(tensor).tobytes())


def _mapped(path: Path, tensor: str, stack: ExitStack) -> memoryview:
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                return memoryview(b"")
            mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ValueError(f"The external data of {tensor} cannot be read: {error}.") from error
    view = memoryview(mapped)
    stack.callback(view.release)
    return view


def _replace_tensors(model: Any, folder: Path) -> None:
    """Put the digest of its bytes in place of every tensor's bytes."""
    # Kept in a list: protobuf hands out a new object at each visit.
    tensors = list(_tensors(model))
    for tensor, digest in zip(tensors, _contents(tensors, folder), strict=True):
        name, data_type, dims = tensor.name, tensor.data_type, list(tensor.dims)
        tensor.Clear()
        tensor.name, tensor.data_type, tensor.raw_data = name, data_type, digest.encode()
        tensor.dims.extend(dims)


def _strip_model(model: Any) -> None:
    for field in ("producer_name", "producer_version", "doc_string", "domain", "model_version", "metadata_props"):
        model.ClearField(field)
    _sort(model.opset_import, lambda entry: (entry.domain, entry.version))
    _strip_graph(model.graph)
    for function in model.functions:
        for field in ("doc_string", "metadata_props", "value_info"):
            function.ClearField(field)
        for node in function.node:
            _strip_node(node)
        _sort(function.opset_import, lambda entry: (entry.domain, entry.version))


def _strip_graph(graph: Any) -> None:
    for field in ("name", "doc_string", "metadata_props", "value_info"):
        graph.ClearField(field)
    for value in (*graph.input, *graph.output):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    _sort(graph.initializer, lambda tensor: tensor.name)
    for node in graph.node:
        _strip_node(node)


def _strip_node(node: Any) -> None:
    node.ClearField("doc_string")
    node.ClearField("metadata_props")
    _sort(node.attribute, lambda attribute: attribute.name)
    for attribute in node.attribute:
        attribute.ClearField("doc_string")
        if attribute.HasField("g"):
            _strip_graph(attribute.g)
        for graph in attribute.graphs:
            _strip_graph(graph)


def _sort(repeated: Any, key: Any) -> None:
    ordered = []
    for item in sorted(repeated, key=key):
        copy = type(item)()
        copy.CopyFrom(item)
        ordered.append(copy)
    del repeated[:]
    repeated.extend(ordered)
