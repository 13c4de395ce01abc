"""Records of contestants that run and of such that do not."""

from __future__ import annotations

from typing import Any

import pytest

from trtbuild.benching.contestants import Contestant, Entry, compiled, eager
from trtbuild.benching.session import Plan, batch_dim, measure
from trtbuild.errors import StageError

torch = pytest.importorskip("torch")

PLAN = Plan([{"batch": 1}, {"batch": 4}], seconds=0.004, warmup=0.002, rounds=2, batch="batch")


def arguments(point: dict[str, int]) -> Any:
    return (torch.ones(point["batch"], 3),), {}


def rows_of(*entries: Entry) -> list[list[dict[str, Any]]]:
    with torch.no_grad():
        return [point["rows"] for point in measure(entries, arguments, PLAN, "cpu")]


def model() -> Any:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2).eval()


def test_every_contestant_has_a_row_at_every_point() -> None:
    entries = [
        Entry("artifact", False, lambda: Contestant(model())),
        Entry("artifact", True, lambda: Contestant(model())),
        eager(model, "fp32", "cpu"),
    ]
    with torch.no_grad():
        points = measure(entries, arguments, PLAN, "cpu")
    assert [(point["at"], point["items"]) for point in points] == [({"batch": 1}, 1), ({"batch": 4}, 4)]
    for point in points:
        assert [(row["what"], row["cuda_graph"]) for row in point["rows"]] == [
            ("artifact", False),
            ("artifact", True),
            ("eager", False),
        ]
        for row in point["rows"]:
            assert 0 < row["median_ms"] <= row["p90_ms"] <= row["p99_ms"]
            assert row["samples"] >= 2 and row["throughput_per_s"] > 0 and row["host_median_ms"] > 0
            assert row["warmup"].keys() == {"calls", "seconds", "stable"}
            assert row["peak_bytes"] is None and row["device_bytes"] is None  # a CPU does not tell
        assert point["rows"][2]["precision"] == "float32, no TF32"


def test_one_that_does_not_open_says_why_at_every_point() -> None:
    def broken() -> Contestant:
        raise StageError("There is no such thing", [("a", "b")])

    for rows in rows_of(Entry("artifact", False, lambda: Contestant(model())), Entry("peer", False, broken)):
        assert "failed" not in rows[0]
        assert rows[1] == {"what": "peer", "cuda_graph": False, "failed": "There is no such thing (a: b)"}


def test_one_that_fails_at_a_point_runs_at_the_others() -> None:
    def picky(x: Any) -> Any:
        if x.shape[0] == 4:
            raise RuntimeError("four are too many\nand more text")
        return x

    first, second = rows_of(Entry("peer", False, lambda: Contestant(picky)))
    assert "failed" not in first[0]
    assert second[0]["failed"] == "RuntimeError: four are too many"


def test_torch_compile_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import torch._inductor.config as config

    monkeypatch.setattr(config.cpp, "cxx", ("/nonexistent/g++",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()

    def net() -> Any:
        # Something that is fused to a kernel, and with that compiled.
        return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.GELU(), torch.nn.LayerNorm(5))

    for rows in rows_of(eager(net, "fp32", "cpu"), compiled(net, "fp32", "cpu", points=2, cuda_graph=False)):
        assert "failed" not in rows[0]
        assert rows[1]["what"] == "torch.compile" and "/nonexistent/g++" in rows[1]["failed"]


def test_mixed_precision_is_by_autocast() -> None:
    seen: list[torch.dtype] = []

    class Net(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            seen.append(super().forward(x).dtype)
            return x

    (rows, _) = rows_of(eager(lambda: Net(3, 2), "bf16-mixed", "cpu"))
    assert rows[0]["precision"] == "bfloat16 by autocast"
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("shape", "dims", "found"),
    [
        (["batch", 3], ["batch"], "batch"),
        ([3, "batch"], ["batch"], None),
        (["n"], ["batch", "n"], None),
        ([3], [], None),
        ([], ["batch"], None),
    ],
)
def test_the_batch_is_the_first_dim_that_leads_an_input(shape: list[Any], dims: list[str], found: str | None) -> None:
    assert batch_dim([{"name": "x", "shape": shape}], dict.fromkeys(dims)) == found
