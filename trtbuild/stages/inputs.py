"""The inputs of a model as recipes give them: example tensors, shapes over named dims, flattened in order.

A spec is {"shape": [int | dim, ...], "dtype", "format", "range"?} or {"tuple" | "list": [spec, ...]} or
{"dict": {name: spec}}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

_CASTS = {"fp16": "float16", "bf16": "bfloat16"}
_FLOATING = ("float32", "float64", "float16", "bfloat16")


def cast_dtype(cast: str) -> str | None:
    """The dtype that a cast gives floating parameters, buffers and inputs; None where there is none."""
    return _CASTS.get(cast)


def map_tensors(spec: Spec, make: Callable[[Spec], Any]) -> Any:
    """The spec's structure with every tensor spec replaced by what `make` gives."""
    if "shape" in spec:
        return make(spec)
    if "tuple" in spec:
        return tuple(map_tensors(item, make) for item in spec["tuple"])
    if "list" in spec:
        return [map_tensors(item, make) for item in spec["list"]]
    return {name: map_tensors(item, make) for name, item in spec["dict"].items()}


def tensors(spec: Spec) -> Iterator[Spec]:
    """The tensor specs in the order in which torch flattens the structure."""
    if "shape" in spec:
        yield spec
        return
    # torch flattens a dict in its own order, which is that of the spec: the examples are made from it.
    items = spec["dict"].values() if "dict" in spec else spec.get("tuple") or spec.get("list") or ()
    for item in items:
        yield from tensors(item)


def split(inputs: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Positional specs in order, keyword specs by name."""
    return [spec for spec in inputs if not spec.get("keyword")], {
        spec["name"]: spec for spec in inputs if spec.get("keyword")
    }


def cast_inputs(inputs: list[dict[str, Any]], cast: str) -> list[dict[str, Any]]:
    """The inputs with floating dtypes as the cast makes them: a module in half takes halves."""
    dtype = cast_dtype(cast)
    if dtype is None:
        return inputs

    def recast(spec: Mapping[str, Any]) -> dict[str, Any]:
        return {**spec, "dtype": dtype if spec["dtype"] in _FLOATING else spec["dtype"]}

    def walk(spec: Mapping[str, Any]) -> dict[str, Any]:
        if "shape" in spec:
            return recast(spec)
        kind = next(kind for kind in ("tuple", "list", "dict") if kind in spec)
        items = spec[kind]
        inner = {k: walk(v) for k, v in items.items()} if kind == "dict" else [walk(item) for item in items]
        return {**spec, kind: inner}

    return [walk(spec) for spec in inputs]


def example_size(dim: Mapping[str, int]) -> int:
    """The size that a dim is traced with: its opt, but never 1, which torch.export would take for a constant."""
    return dim["opt"] if dim["opt"] != 1 or dim["min"] == dim["max"] else min(2, dim["max"])


def example(
    inputs: list[dict[str, Any]], dims: Mapping[str, Mapping[str, int]], seed: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example (args, kwargs) of torch tensors, drawn under a seed within each spec's range."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def tensor(spec: Spec) -> torch.Tensor:
        shape = [size if isinstance(size, int) else example_size(dims[size]) for size in spec["shape"]]
        return _draw(shape, spec, generator)

    positional, keyword = split(inputs)
    return tuple(map_tensors(s, tensor) for s in positional), {
        name: map_tensors(s, tensor) for name, s in keyword.items()
    }


def _draw(shape: list[int], spec: Spec, generator: Any) -> Any:
    import torch

    dtype: torch.dtype = getattr(torch, spec["dtype"])
    if dtype.is_floating_point:
        low, high = spec.get("range") or (None, None)
        if low is None:
            value = torch.randn(shape, generator=generator)
        else:
            value = torch.rand(shape, generator=generator) * (high - low) + low
        value = value.to(dtype)
    elif dtype is torch.bool:
        value = torch.randint(0, 2, shape, generator=generator).to(torch.bool)
    else:
        low, high = spec.get("range") or (0, 2)
        value = torch.randint(int(low), int(high), shape, generator=generator, dtype=dtype)
    if spec.get("format") == "channels_last":
        value = value.contiguous(memory_format=torch.channels_last)
    return value


def dynamic_shapes(inputs: list[dict[str, Any]], dims: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """torch.export's dynamic_shapes for (args, kwargs): per tensor {axis: Dim} of the dims that vary."""

    def axes(spec: Spec) -> dict[int, Any]:
        return {axis: dims[size] for axis, size in enumerate(spec["shape"]) if isinstance(size, str) and size in dims}

    positional, keyword = split(inputs)
    return [map_tensors(s, axes) for s in positional], {name: map_tensors(s, axes) for name, s in keyword.items()}
