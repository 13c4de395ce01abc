"""A record of `bench` as a table and as a plot: nothing measured, nothing but the record needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from trtbuild.errors import MachineError, UsageError
from trtbuild.views.bench import plot, render_bench
from trtbuild.views.bench_plot import _apart


def row(what: str, graph: bool, ms: float, items: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "what": what,
        "cuda_graph": graph,
        "median_ms": ms,
        "p90_ms": ms * 1.1,
        "p99_ms": ms * 1.5,
        "host_median_ms": ms * 1.2,
        "host_p99_ms": ms * 2,
        "throughput_per_s": 1000 * items / ms,
        "samples": 100,
        "warmup": {"calls": 10, "seconds": 0.5, "stable": True},
        **more,
    }


def at(batch: int) -> dict[str, Any]:
    memory = {"peak_bytes": 10_000_000, "device_bytes": 1_500_000_000}
    return {
        "at": {"batch": batch},
        "items": batch,
        "rows": [
            row("artifact", False, 0.1 * batch, batch, **memory),
            row("artifact", True, 0.08 * batch, batch, **memory),
            row("eager", False, 0.25 * batch, batch, precision="float16", **memory),
            {
                "what": "torch.compile",
                "cuda_graph": False,
                "precision": "float16",
                "failed": "InvalidCxxCompiler: No working C++ compiler found",
            },
            row("torch-tensorrt", True, 0.088 * batch, batch, **memory),
        ],
    }


RECORD: dict[str, Any] = {
    "artifact": {
        "recipe": "resnet",
        "target": "linux",
        "precision": "fp16",
        "format": "engine",
        "path": "a/model.engine",
    },
    "date": "2026-11-21",
    "on": {
        "device": "NVIDIA L4",
        "compute_capability": "8.9",
        "driver": "580.1",
        "versions": {"torch": "2.14.1", "tensorrt-rtx": "1.6.1.120"},
        "clocks": {
            "before": {"sm_mhz": 300.0},
            "after": {"sm_mhz": 1980.0, "sm_max_mhz": 2040.0, "power_w": 71.6, "celsius": 44.0},
        },
    },
    "settings": {"seconds": 1, "warmup": 0.5, "rounds": 4},
    "engine_memory": {"_run_on_acc_0": 98_107_392},
    "points": [at(1), at(8), at(32)],
}


def test_table() -> None:
    text = render_bench({**RECORD, "points": [at(8)]})
    assert text.startswith(
        "resnet / linux / fp16 / model.engine\n"
        "  on       NVIDIA L4, compute capability 8.9, driver 580.1\n"
        "  with     torch 2.14.1, tensorrt-rtx 1.6.1.120\n"
        "  clock    1980 of 2040 MHz, 72 W, 44 degrees at the end\n"
        "  engines  _run_on_acc_0 takes 98.1 MB while it runs\n"
        "\n"
        "batch 8\n"
    )
    table = [line.split("  ") for line in text.partition("batch 8\n")[2].splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in table]
    assert cells[:6] == [
        ["median ms", "p90 ms", "p99 ms", "host ms", "per s", "x artifact", "torch", "device"],
        ["artifact", "0.800", "0.880", "1.20", "0.960", "10,000", "1.00", "10.0 MB", "1.5 GB"],
        ["artifact, CUDA graph", "0.640", "0.704", "0.960", "0.768", "12,500", "1.00", "10.0 MB", "1.5 GB"],
        ["eager", "float16", "2.00", "2.20", "3.00", "2.40", "4,000", "2.50", "10.0 MB", "1.5 GB"],
        ["torch-tensorrt, CUDA graph", "0.704", "0.774", "1.06", "0.845", "11,364", "1.10", "10.0 MB", "1.5 GB"],
        ["torch.compile", "failed: InvalidCxxCompiler: No working C++ compiler found"],
    ]


def test_figures_of_a_column_end_at_the_same_place() -> None:
    lines = render_bench(RECORD).partition("batch 32\n")[2].splitlines()[:5]
    heads = lines[0]
    for head in ("median ms", "p90 ms", "per s", "x artifact"):
        end = heads.index(head) + len(head)
        for line in lines[1:]:
            assert line[end - 1] != " " and (len(line) == end or line[end] == " ")


def test_a_cpu_has_no_columns_of_memory() -> None:
    points = [{"at": {}, "items": 1, "rows": [row("artifact", False, 2.0, peak_bytes=None, device_bytes=None)]}]
    text = render_bench({"artifact": {"format": "aot_inductor"}, "on": {"device": "CPU (x)"}, "points": points})
    assert text.startswith("aot_inductor\n  on") and "\n\nfixed sizes\n" in text
    assert "device" not in text and "CUDA events" not in text


def test_rows_without_an_artifact_beside_them_have_no_ratio() -> None:
    points = [
        {
            "at": {},
            "items": 1,
            "rows": [{"what": "artifact", "cuda_graph": False, "failed": "no"}, row("eager", False, 2)],
        }
    ]
    (line,) = [line for line in render_bench({"points": points}).splitlines() if line.startswith("  eager")]
    assert line.split() == ["eager", "2.00", "2.20", "3.00", "2.40", "500"]


SVG = "{http://www.w3.org/2000/svg}"


def svg_of(records: list[Any], path: Path) -> ElementTree.Element:
    plot(records, path)
    return ElementTree.parse(path).getroot()


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")]


def test_a_plot_says_what_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = texts(svg_of([RECORD], tmp_path / "plot.svg"))
    assert "Latency over batch size" in found and "latency in ms" in found and "batch size" in found
    assert "resnet / linux / fp16 / model.engine" in found
    assert any("NVIDIA L4" in text and "torch 2.14.1" in text for text in found)
    # Every line is named at its end; what failed everywhere has none.
    for name in ("artifact", "artifact, CUDA graph", "eager", "torch-tensorrt, CUDA graph"):
        assert found.count(name) == 1
    assert "torch.compile" not in found
    # The sizes that were measured are the ticks.
    assert {"1", "8", "32"} <= set(found)


def test_a_panel_for_every_record(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    other = {**RECORD, "artifact": {**RECORD["artifact"], "precision": "fp32"}}
    found = texts(svg_of([RECORD, other, RECORD, other], tmp_path / "plot.svg"))
    assert found.count("artifact") == 4 and found.count("resnet / linux / fp32 / model.engine") == 2


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for kind in ("svg", "png"):
        plot([RECORD], tmp_path / f"one.{kind}")
        plot([RECORD], tmp_path / f"two.{kind}")
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "one.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_one_size_is_plotted_as_bars(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = texts(svg_of([{**RECORD, "points": [at(8)]}], tmp_path / "plot.svg"))
    assert "artifact  0.800" in found and "eager  2.00" in found
    assert "latency in ms at batch size 8" in found


def test_of_two_dims_the_longer_run_is_plotted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    points = [
        {"at": {"batch": batch, "tokens": tokens}, "items": batch, "rows": [row("artifact", False, batch * tokens)]}
        for batch, tokens in [(1, 16), (1, 64), (2, 64), (4, 64), (4, 128)]
    ]
    found = texts(svg_of([{**RECORD, "points": points}], tmp_path / "plot.svg"))
    assert "batch size" in found and {"1", "2", "4"} <= set(found) and "16" not in found


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MachineError, match="A plot needs matplotlib") as raised:
        plot([RECORD], tmp_path / "plot.svg")
    assert "trtbuild[plot]" in raised.value.hint and not (tmp_path / "plot.svg").exists()


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="SVG or a PNG"):
        plot([RECORD], tmp_path / "plot.pdf")


@pytest.mark.parametrize(
    "points", [[], [{"at": {}, "items": 1, "rows": [{"what": "artifact", "cuda_graph": False, "failed": "no"}]}]]
)
def test_nothing_to_plot(points: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to plot"):
        plot([{**RECORD, "points": points}], tmp_path / "plot.svg")


def test_names_that_would_meet_are_moved_apart() -> None:
    places = _apart([0.1, 0.5, 0.51, 0.52, 0.9], 0.1)
    assert places == pytest.approx([0.1, 0.41, 0.51, 0.61, 0.9])
    close = _apart([0.5] * 7, 0.1)
    assert close == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
