"""Verify steps made by hand: a source model, the program traced from it, an artifact made from that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.stages import onnx as onnx_stage
from trtbuild.stages import trace
from trtbuild.worker.job import Job

MODELS = '''\
import torch
from torch import nn


class Net(nn.Module):
    """A convolution and a classifier, with a count of what is positive beside it."""

    def __init__(self, negate=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)
        self.negate = negate

    def forward(self, x):
        y = torch.relu(self.conv(x)).mean((2, 3))
        y = self.head(torch.tanh(y))
        return {"scores": -y if self.negate else y, "hidden": (y.sum(1), torch.sigmoid(y)), "positive": (y > 0).sum(1)}


class Pair(nn.Module):
    """Two outputs in a tuple, an input by keyword."""

    def forward(self, x, *, gain):
        return x * gain, x + gain


class Mask(nn.Module):
    """Scores of which some are masked with -inf; the others' logarithms are NaN below zero."""

    def forward(self, x, *, log=None):
        return torch.where(x > 0.5, x, float("-inf"))


class Large(nn.Module):
    """Beyond what half precision holds."""

    def forward(self, x):
        return (x + 1) * 1e5


class OwnFloats(nn.Module):
    """Makes a float32 matrix itself."""

    def forward(self, x):
        return x @ torch.ones(x.shape[-1], 2, dtype=torch.float32)


class Raises(nn.Module):
    """Raises an error for a batch of one."""

    def forward(self, x):
        if x.shape[0] == 1 and not torch.compiler.is_exporting():
            raise ValueError("a batch of one")
        return x * 2
'''

BATCH = {"min": 1, "opt": 2, "max": 4}
IMAGE = {"name": "x", "shape": ["batch", 3, 8, 8], "dtype": "float32", "format": "contiguous"}


def verify_job(
    root: Path,
    entry: str = "Net",
    format: str = "onnx",
    inputs: list[dict[str, Any]] | None = None,
    traced_entry: str | None = None,
    traced_args: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    verify: Mapping[str, Any] | None = None,
    **options: Any,
) -> Job:
    """The job of a verify step whose artifact was traced from `traced_entry`, by default from the model itself."""
    (root / "models.py").write_text(MODELS)
    settings: dict[str, Any] = {
        "entry": f"models.py:{entry}",
        "args": {},
        "seed": 0,
        "inputs": inputs or [IMAGE],
        "dims": {"batch": BATCH},
    }
    cast = precision if precision in ("fp16", "bf16") else "fp32"
    tracing = {**settings, "cast": cast, "strict": False, "decompositions": "default", "args": dict(traced_args or {})}
    tracing["entry"] = f"models.py:{traced_entry or entry}"
    program, details = stage(trace, root / "trace", tracing, {}, {}, root)
    artifact, made = {"model.pt2": program["program.pt2"]}, {}
    if format == "onnx":
        wanted = {"opset": None, "inputs": settings["inputs"], "dims": settings["dims"]}
        artifact, made = stage(onnx_stage, root / "onnx", wanted, {"program": program}, {"program": details}, root)
    return Job(
        stage="verify",
        settings={
            **settings,
            "profiles": [],
            "format": format,
            "platform": "linux-x86_64",
            "runtime": "torch" if format != "onnx" else "tensorrt-rtx",
            "device": "cpu",
            "compute_capability": [],
            "precision": precision,
            "verify": {"samples": 1, "reference": "float32", "outputs": {}, **(verify or {})},
        },
        inputs={"artifact": artifact, "program": program},
        details={"artifact": made, "program": details},
        files={},
        workspace=root,
        out=root / "out",
        options=options,
    )


def stage(
    module: Any,
    folder: Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Path]],
    details: Mapping[str, Mapping[str, Any]],
    workspace: Path,
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Run a stage in this process; its outputs by name, and its details."""
    folder.mkdir()
    made = module.run(Job(module.__name__, settings, inputs, details, {}, workspace, folder))
    return {path.name: path for path in folder.iterdir()}, made
