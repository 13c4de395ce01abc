"""Runs that are killed, and runs that meet: nothing stored is lost, nothing half is served, no stage runs twice."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.project import STATIC, Project

NULL_KILLS, NULL_CHUNKS = 264, 4
REAL_KILLS, REAL_CHUNKS = 36, 2

NULL = """\
[model]
entry = "models/{source}.py:net"
args = {{ n = {n} }}

[inputs.x]
shape = [4]

[compile]
converter = "onnx"

[targets.linux]
platform = "linux-x86_64"
runtime = "null"
precision = ["fp32", "fp16"]
formats = ["engine", "onnx"]
"""


class Nulls(Project):
    """A workspace with recipes of null stages, some of which share theirs."""

    def __init__(self, root: Path, count: int = 8) -> None:
        self.root = root
        (root / "models").mkdir(parents=True)
        (root / "pyproject.toml").touch()
        self.sources = [root / "models" / f"{name}.py" for name in "ab"]
        for source in self.sources:
            source.write_text("first\n")
        for n in range(count):
            (root / f"r{n}.toml").write_text(NULL.format(source="ab"[n % 2], n=n // 4))


def kill_at_random(process: subprocess.Popen[str], within: float, pick: random.Random) -> None:
    """SIGKILL a run, or one of the processes it has started, at a random moment of its life."""
    time.sleep(pick.uniform(0, within))
    victims = [process.pid]
    with contextlib.suppress(psutil.NoSuchProcess):
        victims += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    # Mostly the run itself, since the death of a worker is told from within.
    victim = pick.choice(victims) if pick.random() < 0.4 else process.pid
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(victim).send_signal(signal.SIGKILL)
    process.communicate(timeout=120)


def stored(project: Project) -> set[str]:
    return {path.name for path in (project.root / "cache/entries-v2").glob("*/*")}


def assert_whole(project: Project, recipes: str, scratch: Path) -> None:
    """A clean run ends well, the store is sound, and the artifacts are those of a build from nothing."""
    done = project.trtbuild("run", recipes, "--json")
    assert done.code == 0, done.err
    verified = project.trtbuild("cache", "verify", "--json")
    assert verified.code == 0 and not verified.json["damaged"], verified.out
    fresh = project.trtbuild("run", recipes, "--cache", str(scratch / "cache"), "--dist", str(scratch / "dist"))
    assert fresh.code == 0, fresh.err
    made = {path.relative_to(scratch / "dist"): path for path in (scratch / "dist").rglob("model.*")}
    assert made
    for name, path in made.items():
        assert (project.root / "dist" / name).read_bytes() == path.read_bytes(), name
    shutil.rmtree(scratch)
    assert not list((project.root / "dist").rglob(".*")), "something half is left in dist/"


@pytest.mark.parametrize("chunk", range(NULL_CHUNKS))
def test_killed_at_any_moment_a_build_of_null_stages_loses_and_breaks_nothing(tmp_path: Path, chunk: int) -> None:
    pick = random.Random(chunk)
    project = Nulls(tmp_path / "w")
    started = time.monotonic()
    assert project.trtbuild("run", ".").code == 0
    took = time.monotonic() - started
    known: set[str] = set()
    for number in range(NULL_KILLS // NULL_CHUNKS):
        pick.choice(project.sources).write_text(f"{pick.randrange(1000)}\n")
        if pick.random() < 0.2:
            shutil.rmtree(project.root / "dist", ignore_errors=True)
        kill_at_random(project.start("run", "."), took, pick)
        assert known <= stored(project), "what was stored is gone"
        known = stored(project)
        if number % 16 == 15:
            assert_whole(project, ".", tmp_path / "fresh")
    assert_whole(project, ".", tmp_path / "fresh")


@pytest.mark.parametrize("chunk", range(REAL_CHUNKS))
def test_killed_at_any_moment_a_real_build_loses_and_breaks_nothing(tmp_path: Path, chunk: int) -> None:
    pick = random.Random(chunk)
    project = Project(tmp_path / "w", STATIC)
    started = time.monotonic()
    assert project.trtbuild("run", "net.toml").code == 0
    took = time.monotonic() - started
    known: set[str] = set()
    for number in range(REAL_KILLS // REAL_CHUNKS):
        text = project.model.read_text()
        slope = text.partition("slope: float = ")[2].partition(")")[0].partition(",")[0]
        project.model.write_text(text.replace(f"slope: float = {slope}", f"slope: float = 0.{number + 1}"))
        kill_at_random(project.start("run", "net.toml"), took, pick)
        assert known <= stored(project), "what was stored is gone"
        known = stored(project)
    assert_whole(project, "net.toml", tmp_path / "fresh")


def test_eight_runs_at_once_run_each_null_stage_once(tmp_path: Path) -> None:
    project = Nulls(tmp_path / "w", count=24)
    assert_each_stage_ran_once([project.start("run", ".", "--json") for _ in range(8)])


def test_eight_runs_at_once_run_each_real_stage_once(tmp_path: Path) -> None:
    project = Project(tmp_path / "w", STATIC)
    assert_each_stage_ran_once([project.start("run", "net.toml", "--json") for _ in range(8)])


def assert_each_stage_ran_once(processes: list[subprocess.Popen[str]]) -> None:
    results = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), results
    statuses = [{stage["id"]: stage["status"] for stage in json.loads(out)["stages"]} for out, _ in results]
    # What needs a GPU waits for one.
    for id in [id for id in statuses[0] if "/verify/" not in id]:
        assert sorted(found[id] for found in statuses) == ["cached"] * (len(processes) - 1) + ["ran"], id


def test_a_run_that_waits_takes_over_from_one_that_dies(tmp_path: Path) -> None:
    project = Project(tmp_path / "w", STATIC)
    first = project.start("run", "net.toml")
    deadline = time.monotonic() + 60
    while not list((project.root / "cache/tmp").glob("*/*/job.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    second = project.start("run", "net.toml", "--json")
    # Long enough for the second to find the first at work.
    while len(list((project.root / "cache/tmp").glob("*/.alive"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    out, err = second.communicate(timeout=200)
    assert second.returncode == 0, err
    assert "ran" in {stage["status"] for stage in json.loads(out)["stages"]}
