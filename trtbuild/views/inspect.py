"""A manifest as text: what an artifact is, what it takes and gives, what it was made from, how far it is proven.

A manifest may come from another version of trtbuild: what is absent is left out, what is unknown is passed over.
What live engines say of themselves is in `inspect_engine`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from trtbuild.views.inspect_engine import render_engines
from trtbuild.views.result import human_bytes
from trtbuild.views.text import aligned, counted, human_seconds
from trtbuild.views.verification import render_verification

_DIGEST_SHOWN = 12
_LAYER_TYPES_SHOWN = 3
_RAN_WITH = ("torch", "tensorrt-rtx", "tensorrt", "onnxruntime")

Record = Mapping[str, Any]
Rows = list[tuple[str, ...]]


def render_manifest(manifest: Record) -> str:
    """The manifest as people read it; `live` is what its engines said of themselves (`stages.inspect_engine`)."""
    sections: dict[str, Rows] = {
        "files": [_file(file) for file in _records(manifest, "files")],
        "inputs": [_tensor(tensor) for tensor in _records(manifest, "inputs")],
        "outputs": [_tensor(tensor) for tensor in _records(manifest, "outputs")],
        "engines": [_engine(engine) for engine in _records(manifest, "engines")],
        "partitions": list(_partitions(_record(manifest, "partitions"))),
        "called as": _call(_record(manifest, "signature"), _records(manifest, "outputs")),
        "verification": list(_of_all(manifest)),
        "toolchain": [(name, str(version)) for name, version in _items(manifest, "toolchain")],
        "stages": [_stage(stage) for stage in _records(manifest, "stages")],
        "sources": [(path, _digest(digest) or "not there") for path, digest in _items(manifest, "sources")],
    }
    blocks = [_heading(manifest)]
    lines = {title: aligned(rows) for title, rows in sections.items()}
    lines["verification"] += _of_files(manifest)
    blocks += ["\n".join([title, *section]) for title, section in lines.items() if section]
    if live := _record(manifest, "live"):
        blocks.append(render_engines(live))
    return "\n\n".join(blocks)


def _heading(manifest: Record) -> str:
    target = _record(manifest, "target")
    parts = [_word(manifest, "recipe"), _word(target, "name"), _word(manifest, "precision"), _word(manifest, "format")]
    platform = ", ".join(part for part in (_word(target, "platform"), _word(target, "device")) if part)
    runs_on = " on ".join(part for part in (_word(target, "runtime"), platform) if part)
    rows = [
        ("runs with", runs_on),
        ("compute capability", _list_of_words(target, "compute_capability")),
        ("built by", _built_by(manifest)),
    ]
    title = " / ".join(part for part in parts if part) or "an artifact"
    return "\n".join([title, *aligned([row for row in rows if row[1]])])


def _built_by(manifest: Record) -> str:
    version, seconds = _word(manifest, "trtbuild"), manifest.get("seconds")
    if seconds is None:
        spent = [stage.get("seconds") for stage in _records(manifest, "stages")]
        known = [one for one in spent if _is_number(one)]
        seconds = sum(known) if known else None
    took = f"in {human_seconds(seconds)}" if _is_number(seconds) else ""
    return " ".join(part for part in (f"trtbuild {version}" if version else "", took) if part)


def _tensor(tensor: Record) -> tuple[str, ...]:
    shape = tensor.get("shape")
    sizes = " x ".join(map(str, shape)) if isinstance(shape, list) and shape else "scalar" if shape == [] else ""
    ranges = ", ".join(f"{name} {_range(bounds)}" for name, bounds in _record(tensor, "ranges").items())
    format = _word(tensor, "format")
    return _word(tensor, "name"), _word(tensor, "dtype"), sizes, ranges, "" if format == "contiguous" else format


def _range(bounds: Any) -> str:
    if not isinstance(bounds, Mapping):
        return str(bounds)
    best = f" (best at {bounds['opt']})" if "opt" in bounds else ""
    return f"{bounds.get('min', '?')} to {bounds.get('max', '?')}{best}"


def _engine(engine: Record) -> tuple[str, ...]:
    layers = engine.get("layers")
    if isinstance(layers, list):
        types = Counter(_layer_type(layer) for layer in layers if isinstance(layer, Mapping))
    else:
        types = Counter({name: count for name, count in _items(engine, "layer_types") if isinstance(count, int)})
    shown = [f"{count} x {name}" for name, count in types.most_common(_LAYER_TYPES_SHOWN)]
    if len(types) > _LAYER_TYPES_SHOWN:
        shown.append(counted(len(types) - _LAYER_TYPES_SHOWN, "other type"))
    layers_text = f"{counted(sum(types.values()), 'layer')}: {', '.join(shown)}" if types else ""
    return _word(engine, "name"), *_content(engine), layers_text


def _layer_type(layer: Record) -> str:
    dtypes = layer.get("dtypes")
    if isinstance(dtypes, list):
        precision = "/".join(sorted({str(dtype) for dtype in dtypes}))
    else:
        precision = _word(layer, "precision")
    return f"{_word(layer, 'type') or 'layer'} {precision}".rstrip()


def _partitions(partitions: Record) -> Iterator[tuple[str, ...]]:
    for part in _records(partitions, "tensorrt"):
        ops = _record(part, "ops") or part
        counts = [count for count in ops.values() if isinstance(count, int)]
        yield "TensorRT", _word(part, "engine"), counted(sum(counts), "op")
    for part in _records(partitions, "pytorch"):
        yield "PyTorch", _word(part, "op"), f"{part.get('count', 1)} x", _word(part, "reason")


def _file(file: Record) -> tuple[str, ...]:
    return _word(file, "path"), *_content(file), _word(_record(file, "verification"), "status")


def _call(signature: Record, outputs: list[Record]) -> Rows:
    """The call of the artifact in one line, where the manifest tells its structure."""
    inputs = _records(signature, "inputs")
    if not inputs:
        return []
    names = [f"{_word(one, 'name')}=" if one.get("keyword") is True else _word(one, "name") for one in inputs]
    return [(f"model({', '.join(names)}) -> {_tree(signature.get('outputs'), outputs)}",)]


def _tree(tree: Any, outputs: list[Record]) -> str:
    """A structure with the outputs' names in it."""
    if isinstance(tree, int) and not isinstance(tree, bool):
        return (_word(outputs[tree], "name") if 0 <= tree < len(outputs) else "") or f"output {tree}"
    if not isinstance(tree, Mapping) or len(tree) != 1:
        return "?"
    kind, items = next(iter(tree.items()))
    if kind == "dict" and isinstance(items, Mapping):
        return "{" + ", ".join(f"{name}: {_tree(item, outputs)}" for name, item in items.items()) + "}"
    if kind in ("tuple", "list") and isinstance(items, list):
        inner = ", ".join(_tree(item, outputs) for item in items)
        return f"[{inner}]" if kind == "list" else f"({inner},)" if len(items) == 1 else f"({inner})"
    return str(items)


def _of_files(manifest: Record) -> Iterator[str]:
    """What each file's own verification says (schema 2)."""
    for file in _records(manifest, "files"):
        verification = _record(file, "verification")
        if verification:
            yield f"  {_word(file, 'path')}"
            yield from (f"    {line}" for line in render_verification(verification).splitlines())
            if told := _circumstances(verification):
                yield f"    {told}"


def _circumstances(verification: Record) -> str:
    on = _record(verification, "on")
    with_ = [f"driver {on['driver']}"] if on.get("driver") else []
    with_ += [f"{name} {version}" for name, version in _items(on, "versions") if name in _RAN_WITH]
    parts = [f"with {', '.join(with_)}" if with_ else "", _word(verification, "date")]
    return ", on ".join(part for part in parts if part)


def _of_all(manifest: Record) -> Iterator[tuple[str, ...]]:
    """What older manifests say of all their files at once."""
    verification = _record(manifest, "verification")
    if not verification:
        return
    yield _word(verification, "status") or "unknown", _word(verification, "reason")
    for name, value in verification.items():
        if name in ("status", "reason"):
            continue
        if isinstance(value, list):
            yield from ((name, _facts(item)) for item in value)
        elif isinstance(value, Mapping):
            yield from ((str(inner), _facts(item)) for inner, item in value.items())
        else:
            yield name, _fact(value)


def _facts(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(fact)}" for name, fact in value.items())
    return _fact(value)


def _fact(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _stage(stage: Record) -> tuple[str, ...]:
    seconds = stage.get("seconds")
    key = _digest(stage.get("key"))
    took = human_seconds(seconds) if _is_number(seconds) else ""
    return _word(stage, "kind"), _word(stage, "id"), f"key {key}" if key else "", took


def _content(record: Record) -> tuple[str, str]:
    """Size and digest of a file."""
    count = record.get("bytes")
    return human_bytes(count) if isinstance(count, int) else "", _digest(record.get("digest"))


def _digest(value: Any) -> str:
    return value.removeprefix("sha256:")[:_DIGEST_SHOWN] if isinstance(value, str) else ""


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _word(record: Record, name: str) -> str:
    value = record.get(name)
    return "" if value is None else str(value)


def _list_of_words(record: Record, name: str) -> str:
    value = record.get(name)
    return ", ".join(map(str, value)) if isinstance(value, list) else _word(record, name)


def _items(record: Record, name: str) -> list[tuple[str, Any]]:
    return sorted(_record(record, name).items(), key=lambda item: item[0])


def _record(record: Record, name: str) -> Record:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _records(record: Record, name: str) -> list[Record]:
    value = record.get(name)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
