"""The commands as users call them, where nothing needs to be built."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import trtbuild
from tests.conftest import ROOT, Ran
from tests.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def test_plan_says_what_would_run_and_runs_nothing(project: Project) -> None:
    done = project.trtbuild("plan", "net.toml", CUDA_VISIBLE_DEVICES="")
    assert done.code == 0
    assert done.out == (
        "run      net/trace/fp32                not built before\n"
        "unknown  net/compile/linux/fp32        known when net/trace/fp32 has run\n"
        "unknown  net/export/linux/fp32/engine  known when net/compile/linux/fp32 has run\n"
        "pending  net/verify/linux/fp32/engine  that needs a GPU, and there is none here\n"
        "\n"
        "1 to run, 2 known after these, 1 pending\n"
    )
    assert not (project.root / "dist").exists()


def test_a_plan_remembered_is_the_plan_made(project: Project) -> None:
    first, second = (project.trtbuild("plan", "net.toml", "--json") for _ in range(2))
    assert first.out == second.out and first.code == 0
    assert len(list((project.root / "cache/plans-v1").iterdir())) == 1


def test_a_remembered_plan_still_names_a_file_that_is_gone_by_file_and_line(project: Project) -> None:
    project.trtbuild("plan", "net.toml")
    project.model.unlink()
    done = project.trtbuild("plan", "net.toml")
    assert done.code == 2 and "net.toml:2" in done.err


@pytest.mark.parametrize("form", ["text", "dot", "mermaid", "svg"])
def test_graph_draws_every_stage_and_artifact(project: Project, form: str) -> None:
    done = project.trtbuild("graph", "net.toml", "--as", form)
    assert done.code == 0
    for name in ("net/trace/fp32", "net/compile/linux/fp32", "model.engine"):
        assert name in done.out


def test_graph_as_json_is_the_plan(project: Project) -> None:
    plan = project.trtbuild("graph", "net.toml", "--json").json
    assert [step["kind"] for step in plan["steps"]] == ["trace", "compile", "export", "verify"]
    assert plan["cells"][0]["path"] == "net/linux/fp32/model.engine"


def test_schema_prints_a_json_schema(trtbuild: Callable[..., Ran]) -> None:
    assert trtbuild("schema").json["properties"]["model"]
    assert trtbuild("schema", "--json").code == 0


def test_doctor_says_what_this_machine_can_build(trtbuild: Callable[..., Ran]) -> None:
    done = trtbuild("doctor", "--json", CUDA_VISIBLE_DEVICES="")
    found = {one["name"]: one["available"] for one in done.json["capabilities"]}
    assert found["TensorRT-RTX engines"] and found["Windows artifacts"] and found["ONNX"]
    assert not found["TorchScript"] and not found["standard TensorRT"]


def test_cache_path_and_info_tell_of_the_chosen_store(trtbuild: Callable[..., Ran], tmp_path: Path) -> None:
    where = tmp_path / "elsewhere"
    assert trtbuild("cache", "path", TRTBUILD_CACHE=str(where)).out.strip() == str(where)
    info = trtbuild("cache", "info", "--cache", str(where), "--json").json
    assert info.items() >= {"path": str(where), "format": 1, "blobs": 0, "bytes": 0, "entries": 0}.items()


def test_the_workspace_is_found_from_the_recipe_and_not_from_the_current_folder(
    project: Project, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trtbuild", "plan", str(project.recipe), "--json"],
        cwd=tmp_path,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["stages"][0]["id"] == "net/trace/fp32"
    assert (project.root / "cache").is_dir() and not (tmp_path / "cache").exists()


def test_a_wrong_command_exits_with_2(trtbuild: Callable[..., Ran]) -> None:
    assert trtbuild("rum").code == 2
    assert trtbuild("run").code == 2
    assert trtbuild("run", "x.toml", "-j", "0").code == 2


def test_an_error_is_json_too_where_json_is_asked(project: Project) -> None:
    project.edit(project.recipe, "min_block_size", "min_blok_size")
    done = project.trtbuild("run", "net.toml", "--json")
    assert done.code == 2
    assert done.json["mistakes"][0]["hint"] == "Did you mean `min_block_size`?"
    assert "error: Unknown key `min_blok_size` in [compile]" in done.err


def test_a_bug_of_ours_shows_its_traceback_and_exits_with_3(project: Project) -> None:
    code = """
import sys, trtbuild.api
from trtbuild.cli import main
trtbuild.api.open_session = lambda *args, **options: 1 / 0
sys.exit(main(["plan", "net.toml"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and "ZeroDivisionError" in done.stderr and "bug in trtbuild" in done.stderr


def test_the_python_api_plans_as_the_command_does(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trtbuild.plan(project.recipe)
    assert [one.to_json() for one in found] == project.trtbuild("plan", "net.toml", "--json").json["stages"]
    with pytest.raises(AttributeError):
        trtbuild.serve  # noqa: B018


def test_every_module_can_be_imported_without_torch(tmp_path: Path) -> None:
    modules = sorted(
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in (ROOT / "trtbuild").rglob("*.py")
    )
    for name in ("torch", "torch_tensorrt", "tensorrt", "tensorrt_rtx", "onnx", "safetensors"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
    code = (
        "import importlib, sys, trtbuild\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        # A module of the same name would take a function's place.
        "assert all(callable(getattr(trtbuild, name)) for name in trtbuild.__all__ if name[0] != '_')"
    )
    # What an artifact becomes is a torch.nn.Module; nobody imports that before there is one to load.
    modules = [name for name in modules if not name.startswith("trtbuild.runtime.") or name.endswith(".__init__")]
    names = [name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_cache_gc_and_verify_say_what_they_did(trtbuild: Callable[..., Ran]) -> None:
    for action in (("gc", "--max-size", "1.5 GiB", "--max-age", "30d", "--dry-run"), ("verify",)):
        assert isinstance(trtbuild("cache", *action, "--json").json, dict)
    assert "nothing to remove" in trtbuild("cache", "gc").out
    assert "all is as it was written" in trtbuild("cache", "verify").out
    assert "saved" in trtbuild("cache", "info").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max-size", "20XB"), "no unit of size"),
        (("--max-age", "30"), "write 30d for days"),
        (("--max-age", "x"), "is not"),
    ],
)
def test_limits_that_are_none_are_said(trtbuild: Callable[..., Ran], arguments: tuple[str, str], said: str) -> None:
    done = trtbuild("cache", "gc", *arguments)
    assert done.code == 2 and said in done.err
