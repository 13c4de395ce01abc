"""How long trtbuild takes from nothing, and how much memory, beside scripts that make the same artifacts by hand.

python -m tests.bench.cold_build [--runs N] [--model resnet50] [--json FILE]

    single   one engine, against one script
    six      the engines and programs of recipes/resnet.toml, against one script for each, one after the other, and
             against one script that makes all of them, tracing and compiling no more often than it must

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
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench.machine import machine
from tests.bench.memory import CommandFailed, Usage, measure

ROOT = Path(__file__).parents[2]
BY_HAND = Path(__file__).with_name("by_hand.py")
RECIPE = ROOT / "recipes" / "resnet.toml"
NAMES = {"engine": "model.engine", "onnx": "model.onnx", "exported_program": "model.pt2"}

# Both sides must have made the same thing: builds of one network differ by a few bytes, those of two by more.
_SAME_SIZE = 0.02
_PACKAGES = ("torch", "torch-tensorrt-rtx", "tensorrt-rtx", "torchvision", "trtbuild")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact of the recipe."""

    target: str
    precision: str
    format: str

    def __str__(self) -> str:
        return f"{self.target}-{self.precision}-{self.format}"


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

    what: str
    runs: list[Usage] = field(default_factory=list)

    def add(self, usage: Usage) -> None:
        """Keep a run, and tell it on stderr: a run of everything takes minutes."""
        used = f"{usage.seconds:.1f} s, {usage.cpu:.1f} s of a core, {usage.peak / 1e9:.2f} GB"
        print(f"{self.what}: {used}; others took {usage.others:.1f} cores", file=sys.stderr)
        for stage in json.loads(usage.output)["stages"] if usage.output else []:
            print(f"    {stage['seconds']:7.2f} s  {stage['id']}", file=sys.stderr)
        self.runs.append(usage)

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
        return {**kept, "PYTHONPATH": str(self.folder / "source"), "TMPDIR": str(self.folder)}

    def copy_source(self) -> None:
        """Measure a copy of trtbuild: an edit while this runs would change keys, and what is measured."""
        source = self.folder / "source" / "trtbuild"
        shutil.copytree(ROOT / "trtbuild", source, ignore=shutil.ignore_patterns("__pycache__"))

    def recipe(self) -> str:
        text = RECIPE.read_text(encoding="utf-8")
        return text.replace("torchvision.models:resnet50", f"torchvision.models:{self.model}")

    def trtbuild(self, artifacts: Sequence[Artifact]) -> Usage:
        """Build artifacts in a fresh workspace, its cache and dist/ empty."""
        root = self.folder / "workspace"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        (root / "pyproject.toml").touch()
        (root / "resnet.toml").write_text(_cut_to(self.recipe(), artifacts), encoding="utf-8")
        command = [sys.executable, "-m", "trtbuild", "run", "resnet.toml", "--quiet", "--json"]
        return measure(command, root, self.environment())

    def by_hand(self, artifacts: Sequence[Artifact]) -> Usage:
        """Artifacts by one script; they lie in `folder` then."""
        command = [sys.executable, str(BY_HAND), self.model, str(self.folder), *map(str, artifacts)]
        return measure(command, self.folder, self.environment())

    def check_same(self, artifacts: Sequence[Artifact]) -> None:
        """CommandFailed where an artifact by hand is of another size than trtbuild's."""
        dist = self.folder / "workspace" / "dist" / "resnet"
        for artifact in artifacts:
            ours = (dist / artifact.target / artifact.precision / NAMES[artifact.format]).stat().st_size
            theirs = (self.folder / str(artifact)).stat().st_size
            if abs(ours - theirs) > _SAME_SIZE * theirs:
                raise CommandFailed(f"{artifact} has {ours:,} bytes from trtbuild and {theirs:,} by hand")


def single(bench: Bench, runs: int) -> list[Row]:
    """One engine."""
    artifacts = [Artifact("linux", "fp32", "engine")]
    ours, theirs = Side("single, trtbuild"), Side("single, by hand")
    for _ in range(runs):
        ours.add(bench.trtbuild(artifacts))
        theirs.add(bench.by_hand(artifacts))
        bench.check_same(artifacts)
    return [
        Row("one artifact: time", "s", ours.seconds(), theirs.seconds(), 1.05),
        Row("one artifact: processor time", "s", ours.cpu(), theirs.cpu()),
        Row("one artifact: peak memory", "GB", ours.gigabytes(), theirs.gigabytes(), 1.2),
    ]


def six(bench: Bench, runs: int) -> list[Row]:
    """All engines and programs."""
    artifacts = [artifact for artifact in artifacts_of(bench.recipe()) if artifact.format != "onnx"]
    ours, each, all_in_one = Side("six, trtbuild"), Side("six, a script each"), Side("six, one script")
    for _ in range(runs):
        ours.add(bench.trtbuild(artifacts))
        each.add(_one_by_one(bench, artifacts))
        bench.check_same(artifacts)
        all_in_one.add(bench.by_hand(artifacts))
        bench.check_same(artifacts)
    count = len(artifacts)
    return [
        Row(f"{count} artifacts, a script each: time", "s", ours.seconds(), each.seconds(), 0.6),
        Row(f"{count} artifacts, a script each: processor time", "s", ours.cpu(), each.cpu()),
        Row(f"{count} artifacts, a script each: peak memory", "GB", ours.gigabytes(), each.gigabytes()),
        Row(f"{count} artifacts, one script: time", "s", ours.seconds(), all_in_one.seconds()),
        Row(f"{count} artifacts, one script: processor time", "s", ours.cpu(), all_in_one.cpu()),
        Row(f"{count} artifacts, one script: peak memory", "GB", ours.gigabytes(), all_in_one.gigabytes()),
    ]


def _one_by_one(bench: Bench, artifacts: Sequence[Artifact]) -> Usage:
    runs = [bench.by_hand([artifact]) for artifact in artifacts]
    total = sum(run.seconds for run in runs)
    others = sum(run.others * run.seconds for run in runs) / total
    return Usage(total, sum(run.cpu for run in runs), max(run.peak for run in runs), others)


def artifacts_of(recipe: str) -> list[Artifact]:
    """The artifacts of a recipe."""
    targets: dict[str, Any] = tomllib.loads(recipe)["targets"]
    return [
        Artifact(name, precision, format)
        for name, target in targets.items()
        for precision in target["precision"]
        for format in target["formats"]
    ]


def _cut_to(recipe: str, artifacts: Sequence[Artifact]) -> str:
    """The recipe with these artifacts only, which must be a matrix for each target."""
    head, *targets = recipe.split("\n[targets.")
    kept = [head]
    for text in targets:
        name = text.partition("]")[0]
        wanted = [artifact for artifact in artifacts if artifact.target == name]
        if wanted:
            lines = [line for line in text.splitlines() if line and not line.startswith(("precision", "formats"))]
            lines.append(f"precision = {json.dumps(list(dict.fromkeys(one.precision for one in wanted)))}")
            lines.append(f"formats = {json.dumps(list(dict.fromkeys(one.format for one in wanted)))}")
            kept.append("\n".join(lines))
    return "\n[targets.".join(kept) + "\n"


def versions() -> dict[str, str]:
    """What was measured, as far as it is installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def render(rows: Sequence[Row]) -> str:
    """The table, and under it the goals that were missed."""
    lines = [f"{'what':<44} {'ours':>10} {'theirs':>10} {'ratio':>7} {'goal':>7}"]
    for row in rows:
        ours, theirs = (f"{number:.2f} {row.unit}" for number in (row.ours, row.theirs))
        goal = f"{row.goal:.2f}" if row.goal else "-"
        lines.append(f"{row.what:<44} {ours:>10} {theirs:>10} {row.ratio:>7.2f} {goal:>7} {row.verdict}".rstrip())
    missed = [row.what for row in rows if row.verdict == "MISSED"]
    return "\n".join([*lines, f"goals missed: {'; '.join(missed) or 'none'}"])


def _warm(bench: Bench) -> None:
    artifacts = [Artifact("linux", "fp32", "engine")]
    Side("not counted, by hand").add(bench.by_hand(artifacts))
    # Writes the copy's bytecode, as an installation does.
    Side("not counted, trtbuild").add(bench.trtbuild(artifacts))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.cold_build", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of the single artifact (default: 3)")
    parser.add_argument("--six-runs", type=int, default=1, metavar="N", help="runs of the six (default: 1)")
    parser.add_argument("--model", default="resnet50", choices=("resnet50", "resnet18"))
    parser.add_argument("--only", choices=("single", "six"), help="leave out the other")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    return parser.parse_args()


def main() -> int:
    """Measure, print the table. Returns 1 only where a command failed, so that nothing could be measured."""
    options = _options()
    kinds: dict[str, Callable[[Bench], list[Row]]] = {
        "single": lambda bench: single(bench, options.runs),
        "six": lambda bench: six(bench, options.six_runs),
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
    print(render(rows))
    if options.json:
        facts = {"date": date.today().isoformat(), "machine": machine(), "versions": versions(), "model": options.model}
        numbers = ("ours", "theirs", "ratio")
        found = [
            {**asdict(row), "verdict": row.verdict, **{name: round(getattr(row, name), 3) for name in numbers}}
            for row in rows
        ]
        options.json.write_text(json.dumps({**facts, "rows": found}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
