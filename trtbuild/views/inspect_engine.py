"""What live engines say of themselves, as text. The record is what `stages.inspect_engine` hands back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from trtbuild.views.result import human_bytes
from trtbuild.views.text import aligned, counted

Record = Mapping[str, Any]


def render_engines(record: Record) -> str:
    """The engines of an artifact as people read them, layer by layer."""
    return "\n\n".join(block for engine in record["engines"] for block in _blocks(engine, record.get("on", {})))


def _blocks(engine: Record, on: Record) -> Iterator[str]:
    facts = [row for row in _facts(engine, on) if row[1]]
    yield "\n".join([f"engine {engine['name']}", *aligned(facts)])
    tensors = [
        (
            "takes" if tensor["input"] else "gives",
            tensor["name"],
            tensor["dtype"],
            _shape(tensor["shape"]),
            tensor.get("format", ""),
            "on the host" if tensor.get("on_host") else "",
        )
        for tensor in engine.get("tensors", ())
    ]
    if tensors:
        yield "\n".join(["tensors", *aligned(tensors)])
    profiles = [
        (f"{number}", name, " to ".join((_shape(low), _shape(high))), f"best at {_shape(best)}")
        for number, profile in enumerate(engine.get("profiles", ()))
        for name, (low, best, high) in profile.items()
    ]
    if profiles:
        yield "\n".join(["profiles", *aligned(profiles)])
    yield "\n".join(["layers", *aligned([_layer(layer) for layer in engine["layers"]])])


def _facts(engine: Record, on: Record) -> Iterator[tuple[str, str]]:
    capability = on.get("compute_capability")
    where = [str(on.get("device", "")), f"compute capability {capability}" if capability else ""]
    yield "seen on", ", ".join(part for part in where if part)
    types = Counter(layer.get("type") or "without a type" for layer in engine["layers"])
    kinds = ", ".join(f"{count} x {name}" for name, count in types.most_common())
    yield "layers", f"{counted(sum(types.values()), 'layer')}: {kinds}" if types else ""
    if engine.get("tells") == "names":
        yield "tells", "names of layers only; it was not built to tell of types and tactics"
    for name, key in (
        ("weights", "weights_bytes"),
        ("can be streamed", "streamable_weights_bytes"),
        ("while it runs", "memory_bytes"),
    ):
        yield name, human_bytes(engine[key]) if engine.get(key) else ""
    memory = engine.get("profile_memory_bytes") or []
    yield "in each profile", ", ".join(map(human_bytes, memory)) if len(memory) > 1 else ""
    yield "auxiliary streams", str(engine["aux_streams"]) if "aux_streams" in engine else ""
    yield "can be refitted", "yes" if engine.get("refittable") else ""


def _layer(layer: Record) -> tuple[str, ...]:
    tactic = f"tactic {layer['tactic']}" if "tactic" in layer else ""
    ends = [", ".join(_end(tensor) for tensor in layer.get(end, ())) for end in ("inputs", "outputs")]
    flow = " -> ".join(ends) if any(ends) else ""
    return layer.get("type", ""), layer["name"], flow, tactic


def _end(tensor: Record) -> str:
    format = str(tensor.get("format", "")).removesuffix(" format")
    return " ".join(part for part in (_shape(tensor.get("shape", ())), format) if part)


def _shape(sizes: Any) -> str:
    return " x ".join("?" if size == -1 else str(size) for size in sizes)
