"""What a model gives, as flat tensors and a structure of tuples, lists, dicts and constants."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any


def flatten(value: Any) -> tuple[dict[int, Any], Any]:
    """The tensors of a result by their place, and its structure as `trtbuild.structure` writes it.

    Every leaf has a place, as in torch's own flattening, constants such as None too. Named tuples are tuples; types
    that torch flattens to named parts, as dataclasses and those of transformers, are dicts. A number is a tensor of
    no dimension here.
    """
    places = itertools.count()
    leaves: dict[int, Any] = {}

    def walk(part: Any) -> Any:
        import torch

        if isinstance(part, Mapping):
            return {"dict": {str(name): walk(item) for name, item in part.items()}}
        if isinstance(part, (list, tuple)):
            return {"list" if isinstance(part, list) else "tuple": [walk(item) for item in part]}
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return {"dict": {field.name: walk(getattr(part, field.name)) for field in dataclasses.fields(part)}}
        place = next(places)
        if isinstance(part, (torch.Tensor, bool, int, float)):
            leaves[place] = part if isinstance(part, torch.Tensor) else torch.tensor(part)
            return place
        return {"value": part if part is None or isinstance(part, str) else type(part).__name__}

    structure = walk(value)
    return leaves, structure


def places(structure: Any) -> list[int]:
    """The places of the tensors in a structure."""
    if isinstance(structure, int):
        return [structure]
    kind, items = next(iter(structure.items()))
    if kind == "value":
        return []
    return [place for item in (items.values() if kind == "dict" else items) for place in places(item)]


def structure_text(structure: Any) -> str:
    """A structure in a line: `(0, {total: 1})` with tensors by number."""
    if not isinstance(structure, dict):
        return str(structure)
    kind, items = next(iter(structure.items()))
    if kind == "dict":
        return "{" + ", ".join(f"{name}: {structure_text(item)}" for name, item in items.items()) + "}"
    if kind == "value":
        return str(items)
    inner = ", ".join(structure_text(item) for item in items)
    return f"[{inner}]" if kind == "list" else f"({inner},)" if len(items) == 1 else f"({inner})"
