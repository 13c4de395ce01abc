"""Artifacts for tests of the loader, with manifests as trtbuild writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trtbuild.runtime.machine import this_platform

BATCH = {"batch": {"min": 1, "opt": 4, "max": 8}}


def tensor(name: str, shape: Sequence[int | str], dtype: str = "float32", **more: Any) -> dict[str, Any]:
    """A manifest's input; `batch` varies from 1 to 8."""
    ranges = {size: BATCH["batch"] for size in shape if isinstance(size, str) and size.isidentifier()}
    return {"name": name, "dtype": dtype, "shape": list(shape), "ranges": ranges, "format": "contiguous", **more}


def manifest_of(path: Path, format: str, inputs: list[dict[str, Any]], outputs: int = 1, **more: Any) -> dict[str, Any]:
    """The manifest of one file: for this platform, torch on the CPU."""
    return {
        "schema": 2,
        "trtbuild": "0.1.0",
        "recipe": "sample",
        "target": {
            "name": "here",
            "platform": this_platform(),
            "runtime": "torch",
            "device": "cpu",
            "compute_capability": [],
        },
        "precision": "fp32",
        "files": [
            {
                "format": format,
                "path": path.name,
                "digest": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
                "bytes": path.stat().st_size,
            }
        ],
        "inputs": inputs,
        "outputs": [{"dtype": "float32", "shape": ["batch"]} for _ in range(outputs)],
        "signature": {
            "inputs": [{"name": found["name"], "keyword": False, "tree": i} for i, found in enumerate(inputs)],
            "outputs": 0 if outputs == 1 else {"tuple": list(range(outputs))},
        },
        "whole_engine": None,
        "engines": [],
        "toolchain": {"torch": str(torch.__version__).partition("+")[0]},
        **more,
    }


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> Path:
    """Put a manifest beside a file."""
    (path.parent / "manifest.json").write_text(json.dumps(manifest))
    return path


def artifact(path: Path, format: str, inputs: list[dict[str, Any]], outputs: int = 1, **more: Any) -> Path:
    """A file that is already there, with its manifest."""
    return write_manifest(path, manifest_of(path, format, inputs, outputs, **more))


class Affine(torch.nn.Module):
    """A weight and a batch: x [batch, 4] -> [batch, 3]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x))


def affine_program(folder: Path) -> tuple[Path, torch.nn.Module]:
    """Affine as a saved program with a dynamic batch, and its source."""
    model = Affine().eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(model, (torch.randn(4, 4),), dynamic_shapes=({0: batch},))
    path = folder / "model.pt2"
    torch.export.save(program, path)
    return artifact(path, "exported_program", [tensor("x", ["batch", 4])]), model


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest beside a file."""
    beside = path.parent / "manifest.json"
    manifest = json.loads(beside.read_text())
    change(manifest)
    beside.write_text(json.dumps(manifest))
