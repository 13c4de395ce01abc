"""The worker servers, with null stages: forks, fresh processes, crashes, and what is left when all is over."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trtbuild.worker.environment import worker_environment
from trtbuild.worker.outcome import Outcome
from trtbuild.worker.pool import Pool

pytest.importorskip("torch")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    made = Pool(["torch"], tmp_path / "workers.log")
    yield made
    made.close()


def job(folder: Path, x: int = 1) -> Path:
    folder.mkdir()
    spec = {"stage": "null", "settings": {"x": x}, "inputs": {}, "details": {}, "files": {}, "workspace": str(folder)}
    (folder / "job.json").write_text(json.dumps(spec))
    return folder


def wait_for(pool: Pool, count: int) -> dict[str, Outcome]:
    done: dict[str, Outcome] = {}
    deadline = time.monotonic() + 60
    while len(done) < count and time.monotonic() < deadline:
        done |= {outcome.folder.name: outcome for outcome in pool.next_done(1.0)}
    assert len(done) == count
    return done


def test_jobs_run_in_forks_and_in_fresh_processes(pool: Pool, tmp_path: Path) -> None:
    pool.submit("torch", job(tmp_path / "forked", 1))
    pool.submit("gpu", job(tmp_path / "fresh", 2))
    done = wait_for(pool, 2)
    for name, x in (("forked", 1), ("fresh", 2)):
        result = done[name].result
        assert done[name].status == 0 and result is not None and done[name].peak_memory > 0
        assert json.loads((tmp_path / name / "out/null.json").read_text())["settings"] == {"x": x}


def test_a_job_that_is_killed_is_told_by_its_signal(pool: Pool, tmp_path: Path) -> None:
    for victim in running_in(start_endless(pool, tmp_path)):
        os.kill(victim, signal.SIGKILL)
    (outcome,) = wait_for(pool, 1).values()
    assert outcome.status == -signal.SIGKILL and outcome.result is None


def test_closing_ends_the_servers_and_what_runs_in_them(tmp_path: Path) -> None:
    pool = Pool(["torch"], tmp_path / "workers.log")
    folder = start_endless(pool, tmp_path)
    pool.close()
    deadline = time.monotonic() + 10
    while running_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running_in(folder) == []


def start_endless(pool: Pool, tmp_path: Path) -> Path:
    """Start a job that waits for ever, for a pipe that nobody writes to; return its folder once it runs."""
    folder = job(tmp_path / "slow")
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    spec = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**spec, "files": {"data": str(fifo)}}))
    pool.submit("torch", folder)
    deadline = time.monotonic() + 60
    while not running_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running_in(folder)
    return folder


def running_in(folder: Path) -> list[int]:
    """Processes whose current folder is this one, which is where a job's process goes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where, state = os.readlink(entry / "cwd"), (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if where == str(folder) and state != "Z":
                found.append(int(entry.name))
    return found


def test_the_servers_see_no_gpu_and_nothing_of_the_user_s_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("MY_OWN", "x")
    environment = worker_environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "" and environment["TRTBUILD_WORKER_GPUS"] == "1"
    assert "MY_OWN" not in environment and environment["PYTHONHASHSEED"] == "0"
