"""A second build beside the cache: what it is compared with, whom it blames, and that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ran
from tests.fakes import FakeExecutor, Recorder, null_plan, null_step
from tests.project import Project
from trtbuild.build import Build, Options
from trtbuild.plans import Plan
from trtbuild.reproduce import Check, _Rebuild, errors_of
from trtbuild.resolve import Resolver
from trtbuild.signs import Digests
from trtbuild.store.local import LocalStore
from trtbuild.views.reproduce import render_checks
from trtbuild.workspace import Workspace


def chain() -> Plan:
    return null_plan(null_step("r/a"), null_step("r/b", {"in": "r/a"}), null_step("r/c", {"in": "r/b"}))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "log" and "locks" not in path.parts
    }


def checked(root: Path, second: Callable[[str], dict[str, Any] | int | None] = lambda step: None) -> list[Check]:
    """Checks of a chain whose second build is as `second` says."""
    workspace = Workspace(root, root / "cache", root / "dist")
    resolver = Resolver(LocalStore(workspace.cache), workspace, Digests())
    Build(chain(), resolver, Options(), Recorder(), FakeExecutor()).run()
    build = _Rebuild(chain(), resolver, Options(keep_going=True), Recorder())
    build.executor_for = FakeExecutor(second)
    build.run()
    return [build.check_of(state) for state in build.states.values()]


def made(digest: str, canonical: str) -> dict[str, Any]:
    output = {"digest": digest, "canonical": canonical, "bytes": 1}
    return {"outputs": {"null.json": output}, "copies": {}, "details": {}, "reads": None, "seconds": 0.0}


def test_what_gives_the_same_bytes_says_so(tmp_path: Path) -> None:
    assert [(check.verdict, check.where) for check in checked(tmp_path)] == [("same bytes", [])] * 3


def test_the_cache_is_as_it_was(tmp_path: Path) -> None:
    checked(tmp_path)
    before = files(tmp_path)
    checked(tmp_path, lambda step: made("0" * 64, "engine-1:0") if step == "r/a" else None)
    assert files(tmp_path) == before and not list((tmp_path / "cache/tmp").iterdir())


def test_only_the_stage_that_differs_is_blamed(tmp_path: Path) -> None:
    def second(step: str) -> dict[str, Any] | None:
        if step != "r/b":
            return None
        (output,) = tmp_path.glob("cache/tmp/*/r~b/out/null.json")
        output.write_text('{"other": 1}')
        return made("0" * 64, "raw:" + "0" * 64)

    found = checked(tmp_path, second)
    assert [check.verdict for check in found] == ["same bytes", "differs", "same bytes"]
    assert found[1].where[0].startswith("null.json: ") and "other" in " ".join(found[1].where)
    (error,) = errors_of(found)
    assert error.sentence == "`r/b` is not reproducible: from equal inputs it made something else"
    assert error.exit_code == 1


def test_a_stage_that_fails_the_second_time_is_an_error_and_no_part_of_its_history(tmp_path: Path) -> None:
    failure = {"error": {"error": "Too warm", "facts": [], "hint": ""}}
    found = checked(tmp_path, lambda step: failure if step == "r/b" else None)
    assert [check.verdict for check in found] == ["same bytes", "failed", "skipped"]
    assert found[1].where == ["Too warm"] and len(errors_of(found)) == 1
    history = LocalStore(tmp_path / "cache").history("r/b")
    assert history is not None and "failed" not in history


def test_an_output_made_only_once_is_a_difference(tmp_path: Path) -> None:
    other = made("0" * 64, "raw:0")
    other["outputs"]["more.json"] = other["outputs"].pop("null.json")
    found = checked(tmp_path, lambda step: other if step == "r/c" else None)
    assert found[2].verdict == "differs"
    assert found[2].where == ["more.json: made only the second time", "null.json: made only the first time"]


def test_a_damaged_output_is_built_again_before_it_is_compared(tmp_path: Path) -> None:
    project = Project(tmp_path / "net", NULL)
    assert project.run().code == 0
    blob = max((project.root / "cache/blobs-v1").glob("*/*"), key=lambda path: path.stat().st_mtime_ns)
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    done = project.run("--rebuild-check")
    assert done.code == 0, done.err
    assert {check["verdict"] for check in done.json["rebuild_check"]} == {"same bytes"}


NULL = """\
[model]
entry = "models/nets.py:Net"

[inputs.x]
shape = [1]

[targets.linux]
platform = "linux-x86_64"
runtime = "null"
formats = ["engine"]
"""


def test_checks_as_text() -> None:
    text = render_checks(
        [
            Check("r/a", "trace", "same meaning", ["program.pt2: models/model.json: hint"], 1.0),
            Check("r/b", "compile", "same bytes", [], 1.0),
            Check("r/c", "export", "differs", ["model.engine: weights: 1 byte from offset 3"], 1.0),
        ]
    )
    assert text == (
        "same meaning  r/a\n"
        "  program.pt2: models/model.json: hint\n"
        "same bytes    r/b\n"
        "differs       r/c\n"
        "  model.engine: weights: 1 byte from offset 3\n"
        "built twice: 1 same bytes, 1 same meaning, 1 differs"
    )


NOISE = "self.noise = nn.Parameter(torch.tensor([float(int.from_bytes(os.urandom(3), 'big'))]))"
SOURCES = {
    # A dynamic batch: TensorRT may number the temporaries of its shapes anew.
    "steady": ("", "", 0, {"same bytes", "same meaning"}, ""),
    "random weight": (f"        {NOISE}\n", " + self.noise", 1, {"differs"}, "program.pt2: weights noise"),
    "order of addresses": (
        "        self.parts = {object(): 1.0, object(): 2.0}\n",
        " + sum(id(part) // 4096 % 9973 * value for part, value in self.parts.items())",
        1,
        {"differs"},
        "program.pt2: op add_1 = aten.add.Tensor(linear, ",
    ),
    "name of a class": ("", "", 0, {"same meaning"}, "program.pt2: models/model.json: metadata nn_module_stack of "),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_real_model_built_twice(tmp_path: Path, name: str) -> None:
    made, given, code, verdicts, where = SOURCES[name]
    project = Project(tmp_path / "net")
    project.edit(project.model, "        self.slope = slope\n", f"        self.slope = slope\n{made}")
    project.edit(project.model, "return self.head(x)", f"return self.head(x){given}")
    project.edit(project.model, "import torch\n", "import os\n\nimport torch\n")
    if name == "name of a class":
        project.edit(project.recipe, "nets.py:Net", "nets.py:named")
        text = "\n\ndef named(classes):\n    return type(f'Net{os.urandom(4).hex()}', (Net,), {})(classes)\n"
        project.model.write_text(project.model.read_text() + text)
    done: Ran = project.run("--rebuild-check")
    assert done.code == code, done.err
    checks = {check["id"]: check for check in done.json["rebuild_check"]}
    trace = checks.pop("net/trace/fp32")
    assert trace["verdict"] in verdicts, trace
    assert not where or trace["where"][0].startswith(where), trace
    assert {check["verdict"] for check in checks.values()} <= {"same bytes", "same meaning"}, checks
    assert not any((project.root / "cache/tmp").iterdir())
    if code:
        assert "error: `net/trace/fp32` is not reproducible" in done.err
        assert len(done.json["errors"]) == 1
    before = project.artifacts()
    text = project.trtbuild("run", "net.toml", "--rebuild-check")
    assert text.code == code and "built twice: " in text.out
    assert project.artifacts() == before
