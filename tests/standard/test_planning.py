"""Recipes for standard TensorRT: what is planned on a machine that could build it, what is refused on others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trtbuild import buildable, gpus
from trtbuild.planner import named_recipe, plan_from_recipe
from trtbuild.plans import Cell, Plan, Step
from trtbuild.stages.table import layer_of, tools_of
from trtbuild.toolchain import toolchain
from trtbuild.verification import here
from trtbuild.workspace import find_workspace

RECIPE = """\
[model]
entry = "nets.py:Net"

[dims.batch]
min = 1
opt = 4
max = 8

[inputs.x]
shape = ["batch", 3, 16, 16]

[compile]
{compile}

[targets.linux]
platform = "linux-x86_64"
runtime = "tensorrt"
compute_capability = {capability}
precision = ["fp32", "fp16"]
formats = {formats}

[targets.windows]
platform = "windows-x86_64"
runtime = "tensorrt"
compute_capability = {capability}
precision = ["fp32"]
formats = {windows}
"""

INSTALLED: dict[str, Any] = {
    "torch": "2.14.1",
    "torch_tensorrt": "2.14.0",
    "tensorrt": "11.4.0.106",
    "onnx": "1.20",
    "onnxscript": "0.5",
    "torch_tensorrt_rtx": None,
    "tensorrt_rtx": None,
}


@pytest.fixture(autouse=True)
def clear() -> Iterator[None]:
    yield
    gpus.gpus.cache_clear()


def plan(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    gpu: bool = True,
    formats: str = '["engine", "exported_program", "torchscript", "aot_inductor", "onnx"]',
    capability: str = '["8.9"]',
    compile: str = "min_block_size = 1",
    windows: str = '["engine", "exported_program"]',
    **installed: Any,
) -> Plan:
    """The plan of a recipe on a machine with these packages."""
    tools = replace(toolchain(), **{**INSTALLED, **installed})
    monkeypatch.setattr(buildable, "toolchain", lambda: tools)
    monkeypatch.setattr(buildable, "has_gpu", lambda: gpu)
    monkeypatch.setattr(buildable, "platform", lambda: "linux-x86_64")
    (folder / "pyproject.toml").touch()
    (folder / "nets.py").touch()
    text = RECIPE.format(formats=formats, compile=compile, capability=capability, windows=windows)
    named = named_recipe(folder / "net.toml", text.encode())
    return plan_from_recipe(named, find_workspace([folder / "net.toml"]))


def cells(plan: Plan) -> dict[str, Cell]:
    return {cell.name.removeprefix("net/"): cell for cell in plan.cells}


def steps(plan: Plan) -> dict[str, Step]:
    return {id: step for step in plan.steps for id in (step.id, *step.aliases)}


def test_every_cell_is_planned_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = plan(monkeypatch, tmp_path)
    assert len(made.cells) == 12 and all(cell.step and cell.verify and not cell.reason for cell in made.cells)
    found = steps(made)
    for name, cell in cells(made).items():
        target, precision, form = name.split("/")
        step = found[cell.step]
        if form == "onnx":
            assert step.kind == "onnx"
            continue
        assert step.kind == ("cross-compile" if target == "windows" else "export")
        compiled = found[step.needs["compiled"]]
        assert compiled.kind == "compile" and found[compiled.needs["program"]].kind == "trace"
        assert compiled.settings["runtime"] == "tensorrt"
        assert compiled.settings["platform"] == f"{target}-x86_64"
        assert compiled.settings["compute_capability"] == ["8.9"]
        assert compiled.settings["precision"] == precision


def test_an_engine_is_built_for_each_platform_and_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = plan(monkeypatch, tmp_path)
    compiled = [step for step in made.steps if step.kind == "compile"]
    # An RTX engine would serve both platforms.
    assert {(step.settings["platform"], step.settings["precision"]) for step in compiled} == {
        ("linux-x86_64", "fp32"),
        ("linux-x86_64", "fp16"),
        ("windows-x86_64", "fp32"),
    }
    for step in compiled:
        assert layer_of("compile", step.settings) == "gpu"
        assert {"tensorrt", "torch-tensorrt", "torch", "python"} <= set(tools_of("compile", step.settings))
    traces = [step for step in made.steps if step.kind == "trace"]
    assert len(traces) == 2, "one for each cast, whatever the platform"


def test_the_layers_of_what_follows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = steps(plan(monkeypatch, tmp_path))
    layers = {
        id.removeprefix("net/"): layer_of(step.kind, step.settings)
        for id, step in found.items()
        if step.kind in ("export", "cross-compile")
    }
    assert layers["export/linux/fp32/engine"] == layers["export/linux/fp32/exported_program"] == "inline"
    assert layers["export/linux/fp32/torchscript"] == layers["export/linux/fp32/aot_inductor"] == "gpu"
    assert layers["cross-compile/windows/fp32/engine"] == "inline"
    live = found["net/export/linux/fp32/torchscript"].settings
    assert live["runtime"] == "tensorrt"
    assert {"tensorrt", "torch-tensorrt"} <= set(tools_of("export", live))


def test_engines_for_windows_are_not_verified_where_they_are_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(here, "has_gpu", lambda: True)
    monkeypatch.setattr(here, "platform", lambda: "linux-x86_64")
    monkeypatch.setattr(here, "gpus", lambda: (gpus.Gpu("a GPU", "8.9", "580.1"),))
    made = plan(monkeypatch, tmp_path)
    found = steps(made)
    for name, cell in cells(made).items():
        why = here.why_not_here(found[cell.verify].settings)
        assert ("run on Windows alone" in why) == name.startswith("windows")
        if name.startswith("linux") and not name.endswith("onnx"):
            assert why == ""


def test_through_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = 'converter = "onnx"'
    made = plan(monkeypatch, tmp_path, formats='["engine"]', windows='["engine"]', compile=asked, torch_tensorrt=None)
    found = steps(made)
    assert len(made.cells) == 3
    for cell in made.cells:
        compiled = found[found[cell.step].needs["compiled"]]
        assert compiled.settings["platform"] == f"{cell.target}-x86_64"
        assert found[compiled.needs["onnx"]].kind == "onnx"
    made = plan(monkeypatch, tmp_path, windows='["engine"]', compile=f"{asked}\nversion_compatible = true")
    assert all("no version_compatible" in cell.reason for cell in made.cells if cell.format == "engine")


@pytest.mark.parametrize(
    ("machine", "reason", "hint"),
    [
        (
            {"gpu": False},
            "standard TensorRT builds on a GPU of the target's kind, and there is none here",
            "tensorrt-rtx",
        ),
        ({"tensorrt": None}, "standard TensorRT is not installed", "pip install 'trtbuild[tensorrt]'"),
        ({"torch_tensorrt": None}, "Torch-TensorRT is not installed", "pip install 'trtbuild[tensorrt]'"),
        ({"torch": None}, "torch is not installed", "pip install"),
    ],
)
def test_what_is_missing_is_told_of_every_cell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: dict[str, Any], reason: str, hint: str
) -> None:
    made = plan(monkeypatch, tmp_path, formats='["engine", "exported_program"]', **machine)
    assert len(made.cells) == 6 and not made.steps
    for cell in made.cells:
        assert (cell.step, cell.reason) == ("", reason) and hint in cell.hint


def test_rtx_beside_is_no_standard_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = plan(monkeypatch, tmp_path, tensorrt=None, tensorrt_rtx="1.6.1.120", torch_tensorrt_rtx="2.14.0")
    assert {cell.reason for cell in made.cells if cell.format != "onnx"} == {"standard TensorRT is not installed"}


def test_an_older_torch_tensorrt_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = "fallback_data_dependent_ops = true"
    made = plan(monkeypatch, tmp_path, formats='["engine"]', compile=asked, torch_tensorrt="2.11.0")
    assert all("came with Torch-TensorRT 2.13, and here is 2.11.0" in cell.reason for cell in made.cells)
    assert plan(monkeypatch, tmp_path, formats='["engine"]', compile=asked).steps


@pytest.mark.parametrize("form", ["torchscript", "aot_inductor"])
def test_windows_formats_that_nobody_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str) -> None:
    made = plan(monkeypatch, tmp_path, formats='["engine"]', windows=f'["{form}"]')
    found = cells(made)[f"windows/fp32/{form}"]
    assert found.reason == f"{form} cannot be cross-compiled for Windows"
