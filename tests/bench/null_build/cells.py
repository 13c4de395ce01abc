"""A system with a number of recipes, and the three things that are asked of it, in turns with the others."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.null_build.measuring import RunFailed, Sample, TooSlow, run
from tests.bench.null_build.systems import System, source

NULL, TOUCHED, CHANGED = SCENARIOS = ("null", "touched", "changed")
# Systems that trust timestamps do so only for files that are older than a second or two, and read them in seconds: of
# two changes within one, some would not see the second.
_SETTLES = 2.5
_TICK = 1.1
_BUILD_FACTOR = 5
_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR")
_fresh = itertools.count(time.time_ns())


@dataclass(slots=True)
class Cell:
    """One system at one size. `note` says why there are no more samples, where there are none or few."""

    system: System
    size: int
    scripts: Path
    folder: Path
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {scenario: [] for scenario in SCENARIOS})
    note: str = ""
    _content: str = ""
    _changed: float = 0

    def build(self, budget: float) -> None:
        """A fresh folder, and one full build."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        contents = {source(i): f"source {i}\n" for i in range(1, self.size + 1)}
        for name, text in {**contents, **self.system.files(self.size)}.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        self._content = contents[source(self._recipe)].strip()
        with self._noting("full build"):
            for command in self.system.prepare:
                self._run(command, budget)
            self._run(self.system.command, _BUILD_FACTOR * budget)
            self._check()

    def measure(self, scenario: str, budget: float) -> None:
        """One run of a scenario, unless its time is used up."""
        spent = sum(sample.seconds for sample in self.samples[scenario])
        if self.note or spent > budget:
            return
        if scenario != NULL:
            self._change(content=scenario == CHANGED)
        with self._noting(scenario):
            self.samples[scenario].append(self._run(self.system.command, budget))
            self._check()

    def settle(self, budget: float) -> None:
        """A run that is not measured, after which nothing has changed."""
        if not self.note:
            with self._noting("run"):
                self._run(self.system.command, budget)

    def median(self, scenario: str) -> Sample | None:
        """The medians of what was measured, None where nothing was."""
        found = self.samples[scenario]
        if not found:
            return None
        return Sample(
            statistics.median(sample.seconds for sample in found),
            statistics.median(sample.cpu for sample in found),
            statistics.median(sample.mebibytes for sample in found),
        )

    def _change(self, *, content: bool) -> None:
        time.sleep(max(0.0, self._changed + _TICK - time.time()))
        path = self.folder / source(self._recipe)
        if content:
            self._content = f"source {next(_fresh)}"
            path.write_text(self._content + "\n", encoding="utf-8")
        else:
            os.utime(path)
        self._changed = time.time()

    @property
    def _recipe(self) -> int:
        return (self.size + 1) // 2

    def _run(self, command: Sequence[str], limit: float) -> Sample:
        script, *arguments = command
        return run([str(self.scripts / script), *arguments], self.folder, self._environment(), limit)

    def _environment(self) -> Mapping[str, str]:
        """No settings of the user's, whose caches and configurations some systems would find."""
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        home = str(self.folder.with_suffix(".home"))
        return {**kept, "PATH": f"{self.scripts}:{kept.get('PATH', os.defpath)}", "HOME": home}

    def _check(self) -> None:
        """RunFailed where the artifact is not made from the present source: fast and wrong is not to be compared."""
        if not self.system.artifact:
            return
        artifact = self.folder / self.system.artifact.format(self._recipe)
        try:
            text = artifact.read_text(encoding="utf-8")
        except OSError:
            text = ""
        if self._content not in text:
            raise RunFailed("the artifact is not what the source would give")

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Note why the cell cannot go on; the others can."""
        try:
            yield
        except TooSlow:
            self.note = f"> budget ({what})"
        except RunFailed as error:
            self.note = f"{what} failed: {error}"


def measure(cells: Iterable[Cell], runs: int, budget: float) -> None:
    """Measure cells of one size side by side: what else the machine does meanwhile is shared by all."""
    cells = list(cells)
    for cell in cells:
        cell.build(budget)
        _say(f"{cell.system.name}, {cell.size} recipes: {cell.note or 'built'}")
    time.sleep(_SETTLES)
    for cell in cells:
        cell.settle(budget)
    for turn in range(runs):
        for cell in [*cells[turn % len(cells) :], *cells[: turn % len(cells)]]:
            for scenario in SCENARIOS:
                cell.measure(scenario, budget)
            cell.settle(budget)
        _say(f"round {turn + 1} of {runs} done")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
