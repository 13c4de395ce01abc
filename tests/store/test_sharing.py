"""Weights stored once, in real builds: checkpoints, precisions and formats of one model share what is equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.project import Project

_MODEL = """\
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(6)))

    def forward(self, x):
        return self.layers(x)
"""
_RECIPE = """\
[model]
entry = "models/net.py:Net"
weights = "{weights}.safetensors"

[inputs.x]
shape = [4, 512]

[compile]
min_block_size = 1

[targets.linux]
platform = "linux-x86_64"
compute_capability = {capability}
precision = {precision}
formats = {formats}
"""
LAYER = 512 * 512 * 4
# Graphs, directories of archives, small tensors, and engines without their weights.
SMALL = LAYER // 2


class Sharing(Project):
    """A workspace with one model and two checkpoints of it that differ in one layer."""

    def __init__(self, root: Path) -> None:
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file

        self.root = root
        (root / "models").mkdir(parents=True)
        (root / "pyproject.toml").touch()
        (root / "models/net.py").write_text(_MODEL)
        torch.manual_seed(0)
        weights = {}
        for index in range(6):
            weights[f"layers.{index}.weight"] = torch.randn(512, 512)
            weights[f"layers.{index}.bias"] = torch.randn(512)
        save_file(weights, root / "base.safetensors")
        weights["layers.3.weight"] = torch.randn(512, 512)
        save_file(weights, root / "tuned.safetensors")

    def build(self, weights: str, precision: list[str], formats: list[str], capability: str = "8.9") -> dict[str, Any]:
        """Build; what the store says of itself."""
        recipe = {"precision": precision, "formats": formats, "capability": [capability]}
        text = _RECIPE.format(weights=weights, **{name: json.dumps(value) for name, value in recipe.items()})
        (self.root / f"{weights}.toml").write_text(text)
        done = self.trtbuild("run", f"{weights}.toml")
        assert done.code == 0, done.err
        info: dict[str, Any] = self.trtbuild("cache", "info", "--json").json
        return info


def test_a_checkpoint_costs_what_differs_and_formats_and_precisions_share_what_is_equal(tmp_path: Path) -> None:
    project = Sharing(tmp_path / "w")
    first = project.build("base", ["fp32"], ["onnx"])
    assert 6 * LAYER < first["bytes"] < 12 * LAYER + SMALL
    tuned = project.build("tuned", ["fp32"], ["onnx"])
    # The layer as the program has it, and as ONNX does, which lays a matrix out the other way.
    assert LAYER <= tuned["bytes"] - first["bytes"] < 2 * LAYER + SMALL
    tf32 = project.build("base", ["fp32", "tf32"], ["onnx", "engine"])
    # Two engines with their own copy of the weights, but one copy for both.
    assert 6 * LAYER <= tf32["bytes"] - tuned["bytes"] < 6 * LAYER + SMALL
    other = project.build("base", ["fp32", "tf32"], ["onnx", "engine"], "8.6")
    assert other["bytes"] - tf32["bytes"] < SMALL
    assert other["saved_by_parts"] > 12 * LAYER
    assert project.trtbuild("cache", "verify", "--json").json["damaged"] == []
