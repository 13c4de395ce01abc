"""An artifact that has no manifest yet, opened by what the steps behind it tell."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.signature import signature_of
from trtbuild.stages.table import on_cpu
from trtbuild.verification.quiet import import_onnxruntime_quietly

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

    if settings["format"] == "onnx":
        import_onnxruntime_quietly()
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
    calls = details.get("calls", "structured")
    return {
        "schema": _SCHEMA,
        "target": {key: settings[key] for key in ("platform", "runtime", "device", "compute_capability")},
        "precision": settings["precision"],
        "files": [{"format": settings["format"], "path": path.name, "digest": None, "calls": calls}],
        **signature_of(settings, signature),
        "whole_engine": details.get("engine"),
        "engines": details.get("engines", []),
        "toolchain": {},
    }
