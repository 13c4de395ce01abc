"""The formats that are written by running the program: built, loaded in fresh processes and compared on a GPU.

    python -m pytest tests/gpu -n0

The GPU need not be one that NVIDIA lists for TensorRT-RTX: artifacts are verified with --other-gpu.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.project import RECIPE, Project

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

WAYS = {
    "as it was compiled": "",
    "traced once more": "retrace = true",
    "by the legacy exporter": 'retrace = true\nexporter = "legacy"',
    "sizes inferred": 'retrace = true\ndynamic_shapes = "inferred"',
    "another pickle protocol": "retrace = true\npickle_protocol = 5",
}


def project_with(root: Path, export: str, formats: str, model: str = "Net") -> Project:
    recipe = RECIPE.replace('["engine"]', formats).replace('["8.9"]', '["8.9", "12.0"]').replace(":Net", f":{model}")
    project = Project(root / "net", recipe)
    if model != "Net":
        project.edit(project.recipe, "args = { classes = 4 }\n", "")
    project.edit(project.recipe, "[targets.linux]", f"[export]\n{export}\n\n[targets.linux]")
    return project


@pytest.mark.parametrize("export", WAYS.values(), ids=WAYS)
def test_every_way_to_write_an_exported_program(tmp_path: Path, export: str) -> None:
    project = project_with(
        tmp_path, f'extra_files = {{ "labels.txt" = "labels.txt" }}\n{export}', '["exported_program"]'
    )
    (project.root / "labels.txt").write_text("cat\ndog\n")
    done = project.run("--other-gpu", "--skip-unbuildable")
    assert done.code == 0, done.err
    (artifact,) = done.json["artifacts"]
    assert artifact["verification"] == "passed"
    pytest.importorskip("torch_tensorrt")
    files = {"labels.txt": ""}
    torch.export.load(project.root / artifact["path"], extra_files=files)
    assert files == {"labels.txt": "cat\ndog\n"}


@pytest.mark.parametrize("model", ["Net", "Hybrid"])
def test_every_format_of_a_model_of_one_engine_and_of_several_parts(tmp_path: Path, model: str) -> None:
    project = project_with(tmp_path, "", '["exported_program", "torchscript", "aot_inductor"]', model)
    project.edit(project.recipe, '["fp32"]', '["fp32", "fp16"]')
    done = project.run("--other-gpu", "--keep-going")
    assert done.code == 0, done.err
    assert [artifact["verification"] for artifact in done.json["artifacts"]] == ["passed"] * 6
    assert project.run("--other-gpu").ran() == []


def test_formats_without_tensorrt(tmp_path: Path) -> None:
    project = project_with(tmp_path, "", '["exported_program", "torchscript", "aot_inductor"]')
    project.edit(project.recipe, 'compute_capability = ["8.9"]', 'runtime = "torch"')
    done = project.run()
    assert done.code == 0, done.err
    assert [artifact["verification"] for artifact in done.json["artifacts"]] == ["passed"] * 3


def test_what_the_torchscript_frontend_makes_is_right_or_not_published(tmp_path: Path) -> None:
    project = project_with(tmp_path, "", '["torchscript"]')
    project.edit(project.recipe, "[compile]", '[compile]\nir = "ts"')
    done = project.run("--other-gpu")
    if done.code == 0:
        assert [artifact["verification"] for artifact in done.json["artifacts"]] == ["passed"]
        return
    # Newer versions have no such frontend; what gives wrong numbers fails with the comparison.
    (error,) = done.json["errors"]
    assert done.code == 1 and done.json["artifacts"] == []
    assert "outputs" in error["facts"] or "frontend" in error["error"]


def test_a_builder_without_a_gpu_leaves_pending_what_verify_completes(tmp_path: Path) -> None:
    project = project_with(tmp_path, "", '["engine", "exported_program"]')
    done = project.run(CUDA_VISIBLE_DEVICES="")
    assert done.code == 0 and {one["verification"] for one in done.json["artifacts"]} == {"pending"}
    verified = project.trtbuild("verify", "dist", "--other-gpu", "-j", "2", "--json")
    assert verified.code == 0, verified.err
    manifest = json.loads((project.root / "dist/net/linux/fp32/manifest.json").read_bytes())
    assert manifest["verification"] == {"status": "passed"}
    again = project.run(CUDA_VISIBLE_DEVICES="")
    assert again.ran() == [] and {one["verification"] for one in again.json["artifacts"]} == {"passed"}
