"""Every recipe of the repository: parsed, planned, and built, the large models by smaller versions of themselves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.project import Project
from trtbuild.recipe import json_schema, recipe_from_toml

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))

# What makes a large model small, by recipe: texts to replace.
SMALLER = {
    "resnet": [
        ("torchvision.models:resnet50", "torchvision.models:resnet18"),
        ("224, 224", "32, 32"),
        (', "8.6", "8.9", "12.0"', ""),
    ],
    "vit": [
        ('entry = "models/vit.py:vit"', 'entry = "models/vit.py:vit"\nargs = { layers = 1, heads = 2, width = 32 }'),
    ],
    "hybrid": [],
    "two_towers": [],
}


def test_every_recipe_has_a_version_that_is_built() -> None:
    assert sorted(path.stem for path in RECIPES) == sorted(SMALLER)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_sound_and_follows_the_schema(path: Path) -> None:
    import tomllib

    jsonschema = pytest.importorskip("jsonschema")
    recipe_from_toml(path)
    jsonschema.validate(tomllib.loads(path.read_text()), json_schema())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_cell_of_a_recipe_can_be_built_without_a_gpu(path: Path, tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    done = project.trtbuild("plan", str(path), "--json", "--cache", str(tmp_path / "cache"), CUDA_VISIBLE_DEVICES="")
    assert done.code == 0, done.err
    assert [cell["cell"] for cell in done.json["cells"] if cell["reason"]] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_builds_and_a_second_run_does_nothing(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    project = Project(tmp_path / "project")
    shutil.copytree(ROOT / "recipes" / "models", project.root / "models", dirs_exist_ok=True)
    text = path.read_text()
    for old, new in SMALLER[path.stem]:
        assert old in text
        text = text.replace(old, new)
    (project.root / path.name).write_text(text)
    first = project.trtbuild("run", path.name, "--json")
    assert first.code == 0, first.err
    assert first.json["artifacts"] and first.json["left_out"] == []
    for artifact in first.json["artifacts"]:
        assert (project.root / artifact["path"]).stat().st_size == artifact["bytes"]
        assert artifact["verification"] == ("passed" if artifact["format"] == "onnx" else "pending")
    before = project.artifacts()
    assert project.trtbuild("run", path.name, "--json").ran() == []
    assert project.artifacts() == before


def test_the_readme_s_recipe_is_sound() -> None:
    from trtbuild.recipe import recipe_from_text

    blocks = (ROOT / "README.md").read_text().split("```")
    (recipe,) = [block.removeprefix("toml\n") for block in blocks if block.startswith("toml\n")]
    assert recipe_from_text(recipe, "README.md").targets["windows"].precision == ("fp32", "fp16")


def test_the_readme_opens_with_its_two_commands() -> None:
    blocks = (ROOT / "README.md").read_text().split("```")[1::2]
    assert blocks[0].startswith("bash\n") and blocks[0].strip().endswith("trtbuild run recipes/resnet.toml")
    assert blocks[1].startswith("bash\n") and blocks[1].strip().endswith("tests/check.py")


RESULTS = ROOT / "tests/results"

# What is known to be wrong on the GPU that it was run on, and is said in the README.
KNOWN_WRONG = {
    "h200-rtx1.4": {
        "vit/linux/fp16/model.engine",
        "vit/linux/fp16/model.pt2",
        "vit/windows/fp16/model.pt2",
    }
}


@pytest.mark.parametrize("name", ["h200-rtx1.4", "h200-rtx1.6", "h200-formats"])
def test_kept_results_of_gpu_runs_name_what_they_are_of_and_have_passed(name: str) -> None:
    kept = json.loads((RESULTS / f"{name}.json").read_bytes())
    assert kept["date"] and kept["gpu"] and kept["driver"]
    assert set(kept["versions"]) >= {"torch", "tensorrt-rtx-cu13-bindings"}
    wrong = set()
    for result in kept["results"]:
        assert result["digest"].startswith("sha256:") and result["built_by"]["torch"]
        found = result["verification"]
        if found["status"] != "passed":
            wrong.add(result["artifact"])
            continue
        assert found["outputs"] and all(one["passed"] and one["nan"] == 0 for one in found["outputs"])
    assert wrong == KNOWN_WRONG.get(name, set())


def test_the_kept_outcomes_of_gpu_tests_are_of_those_there_are() -> None:
    kept = json.loads((RESULTS / "h200-tests.json").read_bytes())
    assert set(kept["tests"].values()) == {"passed"}
    told = {*kept["tests"], *kept["changed_since_and_not_run"]["tests"]}
    there: set[str] = set()
    for file in ("tests/runtime/test_gpu.py", "tests/gpu/test_formats.py"):
        names = re.findall(r"^def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE)
        there |= {f"{file}::{name}" for name in names}
    assert {name.partition("[")[0] for name in told} == there


def test_measured_latency_is_that_of_torch_tensorrt_by_hand() -> None:
    ratios = []
    for record in json.loads((RESULTS / "h200-latency.json").read_bytes()):
        for point in record["points"]:
            medians = {(row["what"], row["cuda_graph"]): row["median_ms"] for row in point["rows"]}
            for graph in (False, True):
                if ("torch-tensorrt", graph) in medians and ("artifact", graph) in medians:
                    ratios.append(medians["artifact", graph] / medians["torch-tensorrt", graph])
    assert len(ratios) == 15 and max(ratios) <= 1.02
