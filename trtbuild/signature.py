"""How a model is called: its flat inputs and outputs, and where each lies in its arguments and its result."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from trtbuild.stages.inputs import tensors
from trtbuild.structure import plain

_WORD = re.compile(r"[A-Za-z_]\w*")


def signature_of(settings: Mapping[str, Any], traced: Mapping[str, Any]) -> dict[str, Any]:
    """What manifests tell of a call, from the settings of a trace and what it told of the program.

    inputs, outputs: flat, in torch's order, sizes by the recipe's names, the inputs with the range of each;
    signature: {"inputs": [{"name", "keyword", "tree"}], "outputs": tree}, see `structure`.
    """
    specs = [spec for group in settings["inputs"] for spec in tensors(group)]
    names: dict[str, str] = {}
    inputs = []
    for found, spec in zip(traced["inputs"], specs, strict=True):
        for symbol, size in zip(found["shape"], spec["shape"], strict=True):
            if isinstance(symbol, str) and isinstance(size, str):
                names[symbol] = size
        ranges = {size: settings["dims"][size] for size in spec["shape"] if isinstance(size, str)}
        inputs.append({**found, "shape": list(spec["shape"]), "ranges": ranges, "format": spec["format"]})
    outputs = [{**found, "shape": [_renamed(size, names) for size in found["shape"]]} for found in traced["outputs"]]
    places = itertools.count()
    arguments = [
        {"name": spec["name"], "keyword": bool(spec.get("keyword")), "tree": _tree(spec, places)}
        for spec in settings["inputs"]
    ]
    call = {"inputs": arguments, "outputs": plain(traced["structure"])}
    return {"inputs": inputs, "outputs": outputs, "signature": call}


def _renamed(size: int | str, names: Mapping[str, str]) -> int | str:
    """A size over shape symbols as one over the recipe's dims."""
    return _WORD.sub(lambda found: names.get(found[0], found[0]), size) if isinstance(size, str) else size


def _tree(spec: Mapping[str, Any], places: Iterator[int]) -> Any:
    if "shape" in spec:
        return next(places)
    kind = next(kind for kind in ("tuple", "list", "dict") if kind in spec)
    if kind == "dict":
        return {kind: {key: _tree(item, places) for key, item in spec[kind].items()}}
    return {kind: [_tree(item, places) for item in spec[kind]]}
