"""How long trtbuild takes, and how much memory, beside scripts that make the same artifacts by hand.

python -m tests.bench.build [--runs N] [--model resnet50] [--json FILE]

    single   one engine, from nothing, against one script
    matrix   every artifact of recipes/resnet.toml, from nothing, against one script per artifact, one after the other
    null     the matrix once more, with nothing to do, beside a Python that does nothing

Whole processes, ours and theirs in turn, after one run of each kind that is not counted: it brings the libraries into
the page cache. Numbers of two machines, or of one machine at two times, are not to be compared; ratios of one run are,
where stderr says that others took few cores while it ran.
Exits 0 also where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench.memory import INTERVAL, CommandFailed, Usage, measure

ROOT = Path(__file__).parents[2]
PLAIN = Path(__file__).with_name("plain.py")
RECIPE = ROOT / "recipes" / "resnet.toml"

# Both sides must have made the same thing: builds of one network differ by a few bytes, those of two by more.
_SAME_SIZE = 0.02
_NULL_RUNS = 5
_NULL_INTERVAL = 0.002
_PACKAGES = ("torch", "torch-tensorrt-rtx", "tensorrt-rtx", "torchvision", "onnx", "onnxscript", "trtbuild")


@dataclass(frozen=True, slots=True)
class Cell:
    """One artifact of the matrix."""

    target: str
    precision: str
    format: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: two medians, their ratio and what it should be at most."""

    what: str
    unit: str
    ours: float
    theirs: float
    goal: float | None = None

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        return "met" if self.ratio <= self.goal else "MISSED"


@dataclass(slots=True)
class Side:
    """The runs of one side of a comparison."""

    runs: list[Usage] = field(default_factory=list)

    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.runs)

    def cpu(self) -> float:
        return statistics.median(run.cpu for run in self.runs)

    def gigabytes(self) -> float:
        return statistics.median(run.peak for run in self.runs) / 1e9


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and with what everything runs. `folder` is the only place that is written to."""

    model: str
    folder: Path

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRTBUILD")}
        return {**kept, "PYTHONPATH": str(self.source), "TMPDIR": str(self.folder)}

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def copy_source(self) -> None:
        """Measure a copy of trtbuild: an edit while this runs would change keys, and what is measured."""
        shutil.copytree(ROOT / "trtbuild", self.source / "trtbuild", ignore=shutil.ignore_patterns("__pycache__"))

    def recipe(self) -> str:
        text = RECIPE.read_text(encoding="utf-8")
        return text.replace("torchvision.models:resnet50", f"torchvision.models:{self.model}")

    def workspace(self) -> Path:
        """A fresh workspace with the recipe, its cache and dist/ empty."""
        root = self.folder / "workspace"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        (root / "pyproject.toml").touch()
        (root / "resnet.toml").write_text(self.recipe(), encoding="utf-8")
        return root

    def trtbuild(self, workspace: Path, *arguments: str, interval: float | None = INTERVAL) -> Usage:
        command = [sys.executable, "-m", "trtbuild", "run", "resnet.toml", "--quiet", "--json", *arguments]
        return measure(command, workspace, self.environment(), interval)

    def plain(self, cell: Cell) -> Usage:
        """One artifact by hand; it lies in `folder` then."""
        command = [sys.executable, str(PLAIN), self.model, cell.format, cell.precision, str(self.by_hand(cell))]
        return measure(command, self.folder, self.environment())

    def by_hand(self, cell: Cell) -> Path:
        return self.folder / f"{cell.target}-{cell.precision}-{cell.format}"


def single(bench: Bench, runs: int) -> list[Row]:
    """One engine from nothing."""
    cell = Cell("linux", "fp32", "engine")
    ours, theirs = Side(), Side()
    for _ in range(runs):
        workspace = bench.workspace()
        recipe = (workspace / "resnet.toml").read_text(encoding="utf-8")
        (workspace / "resnet.toml").write_text(_cut_to(recipe, cell), encoding="utf-8")
        ours.runs.append(_said("single, trtbuild", bench.trtbuild(workspace)))
        theirs.runs.append(_said("single, by hand", bench.plain(cell)))
        _check_same(bench, workspace, [cell])
    return [
        Row("single artifact: time", "s", ours.seconds(), theirs.seconds(), 1.10),
        Row("single artifact: processor time", "s", ours.cpu(), theirs.cpu()),
        Row("single artifact: peak memory", "GB", ours.gigabytes(), theirs.gigabytes(), 1.2),
    ]


def matrix(bench: Bench, runs: int) -> list[Row]:
    """All artifacts from nothing, and then with nothing to do."""
    cells = cells_of(bench.recipe())
    ours, theirs, null, nothing = Side(), Side(), Side(), Side()
    for _ in range(runs):
        workspace = bench.workspace()
        ours.runs.append(_said("matrix, trtbuild", bench.trtbuild(workspace)))
        theirs.runs.append(_one_by_one(bench, cells))
        _check_same(bench, workspace, cells)
        _null(bench, workspace, null, nothing)
    return [
        Row(f"matrix of {len(cells)}: time", "s", ours.seconds(), theirs.seconds(), 0.7),
        Row(f"matrix of {len(cells)}: processor time", "s", ours.cpu(), theirs.cpu()),
        Row(f"matrix of {len(cells)}: peak memory", "GB", ours.gigabytes(), theirs.gigabytes()),
        *_null_rows(null, nothing),
    ]


def _one_by_one(bench: Bench, cells: Sequence[Cell]) -> Usage:
    runs = [_said(f"by hand, {' '.join(asdict(cell).values())}", bench.plain(cell)) for cell in cells]
    total = sum(run.seconds for run in runs)
    others = sum(run.others * run.seconds for run in runs) / total
    return Usage(total, sum(run.cpu for run in runs), max(run.peak for run in runs), others)


def _null(bench: Bench, workspace: Path, null: Side, nothing: Side) -> None:
    for _ in range(_NULL_RUNS):
        # Looking every two milliseconds takes time of its own: time and memory come from two runs.
        for side, run in ((null, _null_run), (nothing, _nothing_run)):
            timed, weighed = run(bench, workspace, None), run(bench, workspace, _NULL_INTERVAL)
            side.runs.append(Usage(timed.seconds, weighed.cpu, weighed.peak, weighed.others))


def _null_run(bench: Bench, workspace: Path, interval: float | None) -> Usage:
    usage = bench.trtbuild(workspace, interval=interval)
    ran = [stage["id"] for stage in json.loads(usage.output)["stages"] if stage["status"] != "cached"]
    if ran:
        raise CommandFailed(f"the null build ran {', '.join(ran)}")
    return usage


def _nothing_run(bench: Bench, workspace: Path, interval: float | None) -> Usage:
    return measure([sys.executable, "-c", "pass"], workspace, bench.environment(), interval)


def _null_rows(null: Side, nothing: Side) -> list[Row]:
    return [
        Row("null build, beside python -c pass: time", "ms", null.seconds() * 1e3, nothing.seconds() * 1e3),
        Row("null build, beside python -c pass: peak memory", "MB", null.gigabytes() * 1e3, nothing.gigabytes() * 1e3),
    ]


def cells_of(recipe: str) -> list[Cell]:
    """The artifacts of a recipe."""
    targets: dict[str, Any] = tomllib.loads(recipe)["targets"]
    return [
        Cell(name, precision, format)
        for name, target in targets.items()
        for precision in target["precision"]
        for format in target["formats"]
    ]


def _cut_to(recipe: str, cell: Cell) -> str:
    """The recipe with one artifact only."""
    head, *targets = recipe.split("\n[targets.")
    (target,) = [text for text in targets if text.startswith(f"{cell.target}]")]
    kept = [line for line in target.splitlines() if not line.startswith(("precision", "formats"))]
    lines = [*kept, f'precision = ["{cell.precision}"]', f'formats = ["{cell.format}"]']
    return f"{head}\n[targets." + "\n".join(line for line in lines if line) + "\n"


def _check_same(bench: Bench, workspace: Path, cells: Sequence[Cell]) -> None:
    """CommandFailed where an artifact by hand is of another size than trtbuild's."""
    names = {"engine": "model.engine", "onnx": "model.onnx", "exported_program": "model.pt2"}
    for cell in cells:
        ours = workspace / "dist" / "resnet" / cell.target / cell.precision / names[cell.format]
        sizes = ours.stat().st_size, bench.by_hand(cell).stat().st_size
        if abs(sizes[0] - sizes[1]) > _SAME_SIZE * sizes[1]:
            raise CommandFailed(f"{cell} has {sizes[0]:,} bytes from trtbuild and {sizes[1]:,} by hand")


def _said(what: str, usage: Usage) -> Usage:
    """The usage, told on stderr: a run of everything takes minutes."""
    used = f"{usage.seconds:.1f} s, {usage.cpu:.1f} s of a core, {usage.peak / 1e9:.2f} GB"
    line = f"{what}: {used}; others took {usage.others:.1f} cores"
    stages = json.loads(usage.output)["stages"] if usage.output else []
    print(line, *(f"    {stage['seconds']:7.2f} s  {stage['id']}" for stage in stages), sep="\n", file=sys.stderr)
    return usage


def machine() -> dict[str, Any]:
    """Where this was measured."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "load_before": os.getloadavg()[0],
        "python": sys.version.split()[0],
        **{name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def render(rows: Sequence[Row], where: dict[str, Any]) -> str:
    """The table, and under it the machine and the goals that were missed."""
    lines = [f"{'what':<48} {'ours':>10} {'theirs':>10} {'ratio':>7} {'goal':>7}"]
    for row in rows:
        ours, theirs = (f"{number:.2f} {row.unit}" for number in (row.ours, row.theirs))
        goal = f"{row.goal:.2f}" if row.goal else "-"
        lines.append(f"{row.what:<48} {ours:>10} {theirs:>10} {row.ratio:>7.2f} {goal:>7} {row.verdict}".rstrip())
    missed = [row.what for row in rows if row.verdict == "MISSED"]
    lines += ["", *(f"{name}: {value}" for name, value in where.items()), ""]
    return "\n".join([*lines, f"goals missed: {'; '.join(missed) or 'none'}"])


def _warm(bench: Bench) -> None:
    cell = Cell("linux", "fp32", "engine")
    for one in (cell, Cell("linux", "fp32", "onnx")):
        _said(f"not counted, by hand, {one.format}", bench.plain(one))
    # Writes the copy's bytecode, as an installation does.
    bench.trtbuild(bench.workspace(), "--target", "linux", "--format", "onnx")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.build", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of the single artifact (default: 3)")
    parser.add_argument("--matrix-runs", type=int, default=1, metavar="N", help="runs of the matrix (default: 1)")
    parser.add_argument("--model", default="resnet50", choices=("resnet50", "resnet18"))
    parser.add_argument("--only", choices=("single", "matrix"), help="leave out the other")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    return parser.parse_args()


def main() -> int:
    """Measure, print the table. Returns 1 only where a command failed, so that nothing could be measured."""
    options = _options()
    where = machine()
    kinds: dict[str, Callable[[Bench], list[Row]]] = {
        "single": lambda bench: single(bench, options.runs),
        "matrix": lambda bench: matrix(bench, options.matrix_runs),
    }
    with tempfile.TemporaryDirectory(prefix="trtbuild-bench-") as folder:
        bench = Bench(options.model, Path(folder))
        bench.copy_source()
        try:
            _warm(bench)
            rows = [row for name, rows_of in kinds.items() if options.only in (None, name) for row in rows_of(bench)]
        except CommandFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(render(rows, where))
    if options.json:
        found = [{**asdict(row), "ratio": row.ratio, "verdict": row.verdict} for row in rows]
        options.json.write_text(json.dumps({"machine": where, "rows": found}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
