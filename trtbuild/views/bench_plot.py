"""Latency over batch size as SVG or PNG, from records of `bench` alone: no GPU and no display are needed.

A panel per record, lines named at their ends. The same records give the same SVG with the same matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtbuild.errors import MachineError, UsageError
from trtbuild.files import saying_what

Record = Mapping[str, Any]

# The colours of Okabe and Ito, told apart with every kind of colour blindness; https://jfly.uni-koeln.de/color/
_COLOURS = {"artifact": "#0072B2", "eager": "#D55E00", "torch.compile": "#009E73", "torch-tensorrt": "#A6558A"}
_OTHER = "#555555"
_MARKERS = {"artifact": "o", "eager": "s", "torch.compile": "^", "torch-tensorrt": "D"}
_COLUMNS = 3
# Inches: a panel with the names of its lines, and the room for these.
_PANEL = (6.5, 4.4)
_NAMES = 2.3
_STYLE = {
    "svg.hashsalt": "trtbuild",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.5,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}


def plot(records: Sequence[Record], path: Path) -> None:
    """Write the plot of one or more records; the suffix of the path says SVG or PNG.

    UsageError for another suffix, and where nothing was measured; MachineError where matplotlib is absent, or the file
    cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise UsageError("A plot is an SVG or a PNG", [("file", str(path))], "End the name in .svg or .png.")
    panels = [_panel(record) for record in records]
    if not any(lines for _, _, lines in panels):
        raise UsageError("There is nothing to plot", [("records", str(len(records)))], "Every row of them failed.")
    matplotlib = _matplotlib()
    with matplotlib.rc_context(_STYLE):
        figure = _draw(matplotlib, records, panels)
        about = {"Creator": "trtbuild", "Date": None} if kind == "svg" else {"Software": "trtbuild"}
        with saying_what("write the plot", path):
            figure.savefig(path, format=kind, dpi=160, metadata=about)


def title_of(record: Record) -> str:
    """What was measured: recipe, target, precision, and its file or format."""
    about = record.get("artifact", {})
    parts = [about.get(name) for name in ("recipe", "target", "precision")]
    parts.append(str(about["path"]).rpartition("/")[2] if about.get("path") else about.get("format"))
    return " / ".join(str(part) for part in parts if part) or "an artifact"


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise MachineError(
            "A plot needs matplotlib", [("reason", str(error))], "pip install 'trtbuild[plot]' brings it."
        ) from error
    return matplotlib


def _panel(record: Record) -> tuple[str, list[int], dict[tuple[str, bool], list[tuple[int, float]]]]:
    """(dim, sizes, lines) of a record: its longest run of points that differ in one dim alone; the lines are
    {contestant: [(size, ms)]}."""
    points = record.get("points", [])
    best: tuple[str, list[Any]] = ("", points[:1])
    for dim in points[0]["at"] if points else ():
        runs: dict[tuple[Any, ...], list[Any]] = {}
        for point in points:
            others = tuple((name, size) for name, size in point["at"].items() if name != dim)
            runs.setdefault(others, []).append(point)
        longest = max(runs.values(), key=len)
        if len(longest) > len(best[1]) or not best[0]:
            best = (dim, longest)
    dim, chosen = best
    lines: dict[tuple[str, bool], list[tuple[int, float]]] = {}
    for point in sorted(chosen, key=lambda point: point["at"].get(dim, 1)):
        for row in point["rows"]:
            if "failed" not in row:
                lines.setdefault((row["what"], row["cuda_graph"]), []).append(
                    (point["at"].get(dim, 1), row["median_ms"])
                )
    return dim, sorted({size for line in lines.values() for size, _ in line}), lines


def _draw(matplotlib: Any, records: Sequence[Record], panels: Sequence[Any]) -> Any:
    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    size = (_PANEL[0] * columns, _PANEL[1] * rows + 0.9)
    figure = matplotlib.figure.Figure(figsize=size, layout="none")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    left, plotted = 0.75 / size[0], _PANEL[0] - _NAMES - 0.75
    figure.subplots_adjust(
        left=left,
        right=1 - _NAMES / size[0],
        top=1 - 1.25 / size[1],
        bottom=0.62 / size[1],
        wspace=(_PANEL[0] - plotted) / plotted,
        hspace=0.34,
    )
    figure.text(left, 1 - 0.32 / size[1], _heading(panels), fontsize=13, fontweight="bold", va="center")
    figure.text(left, 1 - 0.62 / size[1], _subtitle(records), fontsize=9, color="#555555", va="center")
    for axis in axes[len(panels) :]:
        axis.remove()
    curves = []
    for axis, record, (dim, sizes, lines) in zip(axes, records, panels, strict=False):
        axis.set_title(title_of(record), loc="left", fontsize=10.5)
        if len(sizes) > 1:
            _draw_curves(axis, dim, sizes, lines)
            curves.append((axis, lines))
        else:
            _draw_bars(axis, record, lines)
    _same_heights(curves)
    for axis, lines in curves:
        _label(figure, axis, lines)
    return figure


def _heading(panels: Sequence[Any]) -> str:
    dims = dict.fromkeys(dim for dim, sizes, _ in panels if len(sizes) > 1)
    return f"Latency over {', '.join(_of(dim) for dim in dims)}" if dims else "Latency"


def _of(dim: str) -> str:
    return "batch size" if dim in ("batch", "n", "N", "b", "batch_size") else dim


def _subtitle(records: Sequence[Record]) -> str:
    on = records[0].get("on", {})
    wanted = ("torch", "tensorrt-rtx", "tensorrt")
    versions = [f"{name} {version}" for name, version in on.get("versions", {}).items() if name in wanted]
    by = "GPU time by CUDA events" if "compute_capability" in on else "wall time"
    device = [str(on["device"])] if on.get("device") else []
    return ", ".join([*device, *versions]) + f"\nmedian of a call, {by}; lower is better"


def _draw_bars(axis: Any, record: Record, lines: Mapping[tuple[str, bool], Any]) -> None:
    """Where all was measured at one size there is no curve: a bar each, the fastest on top."""
    found = sorted(((line[0][1], what, graph) for (what, graph), line in lines.items()), reverse=True)
    for place, (ms, what, graph) in enumerate(found):
        colour = _COLOURS.get(what, _OTHER)
        axis.barh(place, ms, height=0.62, color="white" if graph else colour, edgecolor=colour, linewidth=1.4)
        axis.annotate(
            f"{_name(what, graph)}  {ms:#.3g}",
            (ms, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold" if what == "artifact" else "normal",
        )
    axis.set_yticks([])
    axis.set_axisbelow(True)
    points = record["points"][:1]
    at = ", ".join(f"{_of(name)} {size}" for point in points for name, size in point["at"].items())
    axis.set_xlabel(f"latency in ms{f' at {at}' if at else ''}")
    axis.set_xlim(left=0)


def _draw_curves(axis: Any, dim: str, sizes: list[int], lines: Mapping[tuple[str, bool], Any]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for (what, graph), line in lines.items():
        axis.plot(
            [size for size, _ in line],
            [ms for _, ms in line],
            color=_COLOURS.get(what, _OTHER),
            linestyle=(0, (4, 2)) if graph else "-",
            linewidth=2.6 if what == "artifact" else 1.6,
            marker=_MARKERS.get(what, "x"),
            markersize=5.5 if what == "artifact" else 4.5,
            markerfacecolor="white" if graph else None,
            zorder=3 if what == "artifact" else 2,
        )
    axis.set_ylabel("latency in ms")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel(_of(dim))
    if sizes and sizes[-1] > 2 * sizes[0]:
        axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _same_heights(curves: Sequence[tuple[Any, Mapping[Any, Any]]]) -> None:
    """One scale for all panels, so that they can be compared; ticks at 1, 2 and 5 of every decade it covers."""
    from matplotlib.ticker import FixedLocator, NullLocator

    values = [ms for _, lines in curves for line in lines.values() for _, ms in line]
    ticks = [digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)]
    for axis, _ in curves:
        low, high = min(values) / 1.25, max(values) * 1.25
        axis.set_ylim(low, high)
        axis.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
        axis.yaxis.set_minor_locator(NullLocator())


def _label(figure: Any, axis: Any, lines: Mapping[tuple[str, bool], Any]) -> None:
    """Name each line right of its end, moved up or down where names would meet."""
    height = axis.get_position().height * figure.get_size_inches()[1] * 72
    ends = []
    for (what, graph), line in lines.items():
        x, y = axis.transAxes.inverted().transform(axis.transData.transform(line[-1]))
        ends.append((float(y), float(x), what, graph))
    ends.sort()
    for (at, x, what, graph), y in zip(ends, _apart([end[0] for end in ends], 13 / height), strict=True):
        colour = _COLOURS.get(what, _OTHER)
        axis.annotate(
            _name(what, graph),
            xy=(x, at),
            xytext=(1.09, y),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontweight="bold" if what == "artifact" else "normal",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "alpha": 0.6,
                "shrinkA": 0,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def _name(what: str, graph: bool) -> str:
    return f"{what}, CUDA graph" if graph else what


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Ascending places at least a gap apart, near the wanted ones: groups that meet are spread about their middle."""
    groups: list[list[float]] = []
    for place in wanted:
        groups.append([place])
        while len(groups) > 1 and _begin(groups[-1], gap) < _begin(groups[-2], gap) + len(groups[-2]) * gap:
            last = groups.pop()
            groups[-1] += last
    return [_begin(group, gap) + index * gap for group in groups for index in range(len(group))]


def _begin(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - (len(group) - 1) * gap / 2
