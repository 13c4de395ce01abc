"""What `bench` measured, as text: a table per point, each row beside the artifact's.

A record is what `stages.bench` hands back; the rows and their units are told there. The plot is in `bench_plot`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trtbuild.views.bench_plot import plot, title_of
from trtbuild.views.result import human_bytes
from trtbuild.views.text import aligned

__all__ = ["plot", "render_bench", "title_of"]

Record = Mapping[str, Any]

_HEAD = ("", "", "median ms", "p90 ms", "p99 ms", "host ms", "per s", "x artifact", "torch", "device")
_NUMBERS = range(2, len(_HEAD))


def render_bench(record: Record) -> str:
    """The record as people read it."""
    blocks = ["\n".join([title_of(record), *aligned(list(_setting(record)))])]
    for point in record.get("points", ()):
        blocks.append("\n".join([_at(point), *aligned(_table(point["rows"]))]))
    blocks.append(_legend(record))
    return "\n\n".join(blocks)


def _setting(record: Record) -> Iterator[tuple[str, str]]:
    on = record.get("on", {})
    capability = f"compute capability {on['compute_capability']}" if on.get("compute_capability") else ""
    driver = f"driver {on['driver']}" if on.get("driver") else ""
    yield "on", ", ".join(part for part in (str(on.get("device", "")), capability, driver) if part)
    versions = on.get("versions", {})
    yield "with", ", ".join(f"{name} {version}" for name, version in versions.items())
    clocks = on.get("clocks", {}).get("after", {})
    if "sm_mhz" in clocks:
        most = f" of {clocks['sm_max_mhz']:.0f}" if "sm_max_mhz" in clocks else ""
        power = f", {clocks['power_w']:.0f} W" if "power_w" in clocks else ""
        heat = f", {clocks['celsius']:.0f} degrees" if "celsius" in clocks else ""
        yield "clock", f"{clocks['sm_mhz']:.0f}{most} MHz{power}{heat} at the end"
    memory = record.get("engine_memory", {})
    if memory:
        yield "engines", ", ".join(f"{name} takes {human_bytes(size)} while it runs" for name, size in memory.items())


def _at(point: Record) -> str:
    sizes = ", ".join(f"{name} {size}" for name, size in point.get("at", {}).items())
    return sizes or "fixed sizes"


def _table(rows: Sequence[Record]) -> list[tuple[str, ...]]:
    reference = {row["cuda_graph"]: row.get("median_ms") for row in rows if row["what"] == "artifact"}
    table = [_HEAD, *(_row(row, reference.get(row["cuda_graph"])) for row in rows if "failed" not in row)]
    widths = {at: max(len(row[at]) for row in table) for at in _NUMBERS}
    # A column of figures that no row has takes no room.
    empty = {at for at in _NUMBERS if not any(row[at] for row in table[1:])}
    lines = [
        tuple("" if at in empty else f"{cell:>{widths[at]}}" if at in widths else cell for at, cell in enumerate(row))
        for row in table
    ]
    failed = [row for row in rows if "failed" in row]
    return [*(lines if len(lines) > 1 else []), *((_name(row), f"failed: {row['failed']}") for row in failed)]


def _row(row: Record, reference: float | None) -> tuple[str, ...]:
    return (
        _name(row),
        str(row.get("precision", "")),
        *(_figure(row[name]) for name in ("median_ms", "p90_ms", "p99_ms", "host_median_ms", "throughput_per_s")),
        f"{row['median_ms'] / reference:.2f}" if reference else "",
        _bytes(row.get("peak_bytes")),
        _bytes(row.get("device_bytes")),
    )


def _name(row: Record) -> str:
    return f"{row['what']}, CUDA graph" if row["cuda_graph"] else str(row["what"])


def _figure(value: float) -> str:
    """Three digits or more, none of them beyond what was measured."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value >= 100 else f"{value:#.3g}"


def _bytes(value: int | None) -> str:
    return "" if value is None else human_bytes(value)


def _legend(record: Record) -> str:
    on_gpu = "compute_capability" in record.get("on", {})
    lines = [
        "median, p90, p99: a call among queued ones, by CUDA events; host: a single call, waited for."
        if on_gpu
        else "median, p90, p99, host: a call by the host's clock.",
        "x artifact: its median divided by the artifact's, with CUDA graphs by the artifact's with them.",
    ]
    if on_gpu:
        lines.append(
            "torch: what torch's allocator gave out during calls; device: all that the contestant took of the GPU."
        )
    return "\n".join(lines)
