"""How a program's outputs lie in what it returns, and what they are called.

A structure is a number, the index of a flat output; {"tuple": [...]}, {"list": [...]}, {"dict": {key: ...}}; or
{"value": ...}, a constant. JSON that is digested has its keys sorted, and the order of a dict's is that of the flat
outputs: `in_order` writes {"dict": [[key, ...], ...]} for it, `plain` reads it. Types that torch flattens to named
parts, as those of transformers, are dicts here, so that who loads the program needs not the package they come from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from trtbuild.digest import Json

_CONSTANTS = ("as_none", "as_int", "as_float", "as_bool", "as_string")


def structure_of(out_spec: str, outputs: Sequence[Mapping[str, Any]]) -> Json:
    """The structure of a saved program's result, from its out_spec and its user outputs in order."""
    leaves = iter([_leaf(index, argument) for index, argument in enumerate(outputs)])
    return _structure(json.loads(out_spec)[1], leaves)


def in_order(structure: Json) -> Json:
    """A structure whose dicts keep their order in any JSON."""
    return _dicts(structure, lambda items: [[key, in_order(item)] for key, item in items.items()], in_order)


def plain(structure: Json) -> Json:
    """A structure from what `in_order` made of it; one that is plain already stays as it is."""
    return _dicts(structure, lambda items: {key: plain(item) for key, item in dict(items).items()}, plain)


def _dicts(structure: Json, dicts: Callable[[Any], Any], inner: Callable[[Json], Json]) -> Json:
    if not isinstance(structure, dict) or "value" in structure:
        return structure
    ((kind, items),) = structure.items()
    if kind == "dict":
        return {kind: dicts(items)}
    return {kind: [inner(item) for item in items] if isinstance(items, list) else items}


def _leaf(index: int, argument: Mapping[str, Any]) -> Json:
    kind = next(iter(argument))
    if kind == "as_none":
        return {"value": None}
    return {"value": argument[kind]} if kind in _CONSTANTS else index


def _structure(spec: Mapping[str, Any], leaves: Iterator[Json]) -> Json:
    if spec["type"] is None:
        return next(leaves)
    children = [_structure(child, leaves) for child in spec["children_spec"]]
    keys = _keys(spec, len(children))
    if keys is not None:
        return {"dict": dict(zip(keys, children, strict=True))}
    return {"list" if spec["type"] == "builtins.list" else "tuple": children}


def _keys(spec: Mapping[str, Any], count: int) -> list[str] | None:
    """The names of a container's parts, where it has them."""
    if spec["type"] in ("builtins.list", "builtins.tuple"):
        return None
    try:
        context = json.loads(spec["context"])
    except (TypeError, ValueError):
        return None
    # A defaultdict has its factory beside the keys.
    found = (
        context[-1] if isinstance(context, list) and len(context) == 2 and isinstance(context[-1], list) else context
    )
    named = isinstance(found, list) and len(found) == count and all(isinstance(key, str) for key in found)
    return found if named else None


def output_names(structure: Json, count: int) -> list[str]:
    """A name for each flat output: its keys in dicts, else "output" and its place."""
    names = [f"output{index}" for index in range(count)]
    if isinstance(structure, dict) and "dict" in structure:
        for index, path in _paths(structure, ()):
            names[index] = ".".join(path)
    return names


def _paths(structure: Json, path: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    if isinstance(structure, int):
        yield structure, path
    elif isinstance(structure, dict):
        for kind, items in structure.items():
            if kind == "dict" and isinstance(items, dict):
                for key, item in items.items():
                    yield from _paths(item, (*path, key))
            elif kind in ("tuple", "list") and isinstance(items, list):
                for place, item in enumerate(items):
                    yield from _paths(item, (*path, str(place)))
