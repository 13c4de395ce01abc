"""The whole stage on a CPU: programs of a trace as artifacts, measured beside their source model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.verification.jobs import verify_job
from trtbuild.benching import contestants
from trtbuild.errors import StageError, UsageError
from trtbuild.stages import bench
from trtbuild.views.bench import render_bench
from trtbuild.worker.job import Job

torch = pytest.importorskip("torch")


def bench_job(root: Path, *, entry: str = "Net", **asked: Any) -> Job:
    job = verify_job(root, entry, format="exported_program")
    settings = {
        "points": None,
        "seconds": 0.01,
        "warmup": 0.002,
        "rounds": 2,
        "peers": ["eager"],
        "cuda_graph": True,
        "compile": None,
        "artifact": {"recipe": "net", "target": "here"},
        **asked,
    }
    return replace(job, stage="bench", settings={**job.settings, "bench": settings})


def test_a_program_beside_its_source_model(tmp_path: Path) -> None:
    record = bench.run(bench_job(tmp_path))
    assert record["artifact"] == {
        "recipe": "net",
        "target": "here",
        "format": "exported_program",
        "platform": "linux-x86_64",
        "runtime": "torch",
        "device": "cpu",
        "precision": "fp32",
    }
    assert record["on"]["versions"]["torch"] and record["on"]["device"].startswith("CPU")
    assert record["settings"] == {"seconds": 0.01, "warmup": 0.002, "rounds": 2}
    assert record["engine_memory"] == {}
    assert [point["at"] for point in record["points"]] == [{"batch": 1}, {"batch": 2}, {"batch": 4}]
    for point in record["points"]:
        # On a CPU there are no CUDA graphs.
        assert [(row["what"], row["cuda_graph"]) for row in point["rows"]] == [("artifact", False), ("eager", False)]
        assert all(row["median_ms"] > 0 for row in point["rows"])
        # A point's rows rest on as many items.
        assert point["items"] == point["at"]["batch"]
    assert "net / here / fp32 / exported_program" in render_bench(record)


def test_points_that_are_asked(tmp_path: Path) -> None:
    record = bench.run(bench_job(tmp_path, points=[{"batch": 3}], peers=[]))
    assert [(point["at"], len(point["rows"])) for point in record["points"]] == [({"batch": 3}, 1)]


def test_contestants_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    opened: dict[str, Any] = {}

    def noted(entry: contestants.Entry) -> contestants.Entry:
        def open_() -> contestants.Contestant:
            contestant = opened[entry.what] = entry.open()

            def run(*args: Any, **kwargs: Any) -> Any:
                calls.append(entry.what)
                return contestant.run(*args, **kwargs)

            return replace(contestant, run=run)

        return replace(entry, open=open_)

    entries = bench._entries
    monkeypatch.setattr(bench, "_entries", lambda *args: map(noted, entries(*args)))
    bench.run(bench_job(tmp_path, points=[{"batch": 1}], rounds=4))
    turns = [name for at, name in enumerate(calls) if at == 0 or calls[at - 1] != name]
    # Each is warmed up, then they take four turns, every second one backwards.
    assert turns == ["artifact", "eager", "artifact", "eager", "artifact", "eager", "artifact"]
    assert set(opened) == {"artifact", "eager"}


def test_a_peer_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench_job(tmp_path, points=[{"batch": 1}, {"batch": 2}])
    # The source model is gone, the artifact is not.
    (tmp_path / "models.py").write_text("raise OSError('no such weights')")
    for point in bench.run(job)["points"]:
        artifact, eager = point["rows"]
        assert "failed" not in artifact
        assert "entry point" in eager["failed"] and "no such weights" in eager["failed"] and "samples" not in eager


def test_a_model_that_refuses_a_size_is_told_there_alone(tmp_path: Path) -> None:
    one, two, _ = bench.run(bench_job(tmp_path, entry="Raises"))["points"]
    assert one["rows"][1]["failed"] == "ValueError: a batch of one"
    assert "failed" not in two["rows"][1]


def test_an_artifact_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("damaged")

    monkeypatch.setattr(bench, "open_artifact", broken)
    with pytest.raises(StageError, match="The artifact runs at no point") as raised:
        bench.run(bench_job(tmp_path, points=[{"batch": 1}, {"batch": 2}]))
    assert raised.value.facts == [("batch 1", "RuntimeError: damaged"), ("batch 2", "RuntimeError: damaged")]


def test_a_peer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no peer `eagre`") as raised:
        bench.run(bench_job(tmp_path, peers=["eagre"]))
    assert "`eager`" in raised.value.hint


def test_torch_tensorrt_without_its_program() -> None:
    plain, graph = contestants.torch_tensorrt(None, {}, (False, True))
    assert (plain.cuda_graph, graph.cuda_graph) == (False, True)
    with pytest.raises(Exception, match="no longer in the store"):
        plain.open()
