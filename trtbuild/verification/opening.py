"""An artifact that has no manifest yet, opened by what the steps behind it tell."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from trtbuild.stages.inputs import split, tensors
from trtbuild.stages.table import on_cpu

_SCHEMA = 2


def as_written(outputs: Mapping[str, Path]) -> Path:
    """A step's outputs under their own names: blobs have none, and an ONNX model names the file of its weights."""
    folder = Path(tempfile.mkdtemp())
    for name, blob in outputs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(blob)
        except OSError:
            shutil.copyfile(blob, path)
    return folder


def main_file(outputs: Mapping[str, Path]) -> str:
    """The name of the file that is the artifact; beside it may lie weights."""
    return min(name for name in outputs if not name.endswith(".data"))


def open_artifact(
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    stored: Mapping[str, Path],
    signature: Mapping[str, Any],
    details: Mapping[str, Any],
    cuda_graph: bool = False,
) -> Any:
    """An artifact, ready to be called with the model's own arguments.

    `settings` and `options` are those of a verify step, `stored` and `details` what the step gave that made the
    artifact, `signature` the program's. LoadError where it does not open here.
    """
    from trtbuild import runtime

    name = main_file(stored)
    path = as_written(stored) / name
    manifest = _manifest(settings, path, signature, details)
    return runtime.open_artifact(
        path,
        runtime.Description.from_manifest(manifest, name),
        device="cpu" if on_cpu(settings) else "cuda",
        cuda_graph=cuda_graph,
        trusted=True,  # it comes from a step of this very plan
        for_verification=True,
        other_gpu=bool(options.get("other_gpu")),
    )


def _manifest(
    settings: Mapping[str, Any], path: Path, signature: Mapping[str, Any], details: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest of an artifact, as far as the loader reads it."""
    inputs, renamed = _inputs(settings, signature["inputs"])
    return {
        "schema": _SCHEMA,
        "target": {key: settings[key] for key in ("platform", "runtime", "device", "compute_capability")},
        "precision": settings["precision"],
        "files": [{"format": settings["format"], "path": path.name, "digest": None}],
        "inputs": inputs,
        "outputs": [
            {**output, "shape": [_over_dims(size, renamed) for size in output["shape"]]}
            for output in signature["outputs"]
        ],
        "signature": {"inputs": _trees(settings["inputs"]), "outputs": signature["structure"]},
        "whole_engine": details.get("engine"),
        "engines": details.get("engines", []),
        "toolchain": {},
    }


def _inputs(settings: Mapping[str, Any], traced: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The flat inputs, and the recipe's name of each symbol for a size."""
    positional, keyword = split(settings["inputs"])
    specs = [spec for group in [*positional, *keyword.values()] for spec in tensors(group)]
    renamed: dict[str, str] = {}
    inputs = []
    for found, spec in zip(traced, specs, strict=True):
        for symbol, size in zip(found["shape"], spec["shape"], strict=True):
            if isinstance(symbol, str) and isinstance(size, str):
                renamed[symbol] = size
        ranges = {size: settings["dims"][size] for size in spec["shape"] if isinstance(size, str)}
        inputs.append({"name": found["name"], "dtype": found["dtype"], "shape": list(spec["shape"]), "ranges": ranges})
    return inputs, renamed


def _over_dims(size: int | str, renamed: Mapping[str, str]) -> int | str:
    if isinstance(size, int):
        return size
    return re.sub(r"[A-Za-z_]\w*", lambda found: renamed.get(found[0], found[0]), size)


def _trees(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each input's structure over the numbers of the flat inputs."""
    positional, keyword = split(inputs)
    places = count()
    return [
        {"name": group["name"], "keyword": bool(group.get("keyword")), "tree": _tree(group, places)}
        for group in [*positional, *keyword.values()]
    ]


def _tree(spec: Mapping[str, Any], places: count[int]) -> Any:
    if "shape" in spec:
        return next(places)
    kind = next(kind for kind in ("tuple", "list", "dict") if kind in spec)
    items = spec[kind]
    if kind == "dict":
        return {"dict": {name: _tree(item, places) for name, item in items.items()}}
    return {kind: [_tree(item, places) for item in items]}
