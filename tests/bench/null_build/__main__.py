"""What trtbuild takes where little or nothing is to be done, beside other build systems doing the same.

python -m tests.bench.null_build [--sizes 1 10 100 1000] [--peers doit ninja ...] [--json FILE]

    null      nothing has changed
    touched   one source has a new timestamp and its old content
    changed   one source has new content: four stages run

Whole processes from start to end, all systems in turn, after a full build and a run that is not counted. Ratios of one
run are to be compared, times of two runs are not. MiB is the peak of the largest process of a null build; what a system
starts beside it is not added. Exits 0 also where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path

from tests.bench.machine import machine
from tests.bench.null_build import venvs
from tests.bench.null_build.cells import Cell, measure
from tests.bench.null_build.goals import goals
from tests.bench.null_build.systems import NOTHING, PEERS, TRTBUILD, System
from tests.bench.null_build.table import as_data, render, render_goals


def main() -> int:
    """Install, measure, print. Returns 1 where trtbuild itself could not be measured."""
    options = _options()
    scripts = _install(options.venvs, [PEERS[name] for name in options.peers])
    versions = {
        system.name: venvs.version(folder, system.requirement) for system, folder in scripts if system.requirement
    }
    print(*(f"{name} {found}" for name, found in versions.items()), sep=", ")
    cells: list[Cell] = []
    too_slow: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="trtbuild-bench-") as root:
        for size in sorted(options.sizes):
            row = [
                Cell(system, size, folder, Path(root) / system.name.replace(" ", "-") / str(size))
                for system, folder in scripts
                if system.name not in too_slow
            ]
            measure(row, options.runs, options.budget)
            too_slow |= {cell.system.name for cell in row if not any(cell.samples.values())}
            cells += row
            print(f"\n{render(size, row)}", flush=True)
    found = list(goals({(cell.system.name, cell.size): cell for cell in cells}))
    print(f"\n{render_goals(found)}")
    if options.json:
        facts = {"date": date.today().isoformat(), "machine": machine(), "versions": versions, "runs": options.runs}
        options.json.write_text(json.dumps({**facts, **as_data(cells, found)}, indent=1) + "\n", encoding="utf-8")
    return int(TRTBUILD.name in too_slow)


def _install(folder: Path, peers: list[System]) -> list[tuple[System, Path]]:
    """The systems that could be installed, trtbuild first; the others are named on stderr."""
    own = venvs.trtbuild(folder)
    found = [(TRTBUILD, own), (NOTHING, own)]
    for peer in peers:
        try:
            found.append((peer, venvs.peer(folder, peer.name, peer.requirement)))
        except venvs.NotInstalled as error:
            print(f"{peer.name} cannot be installed and is left out: {error}", file=sys.stderr)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.null_build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100, 1000], metavar="N", help="recipes")
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=list(PEERS), help="default: all")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument(
        "--budget",
        type=float,
        default=60,
        metavar="S",
        help="seconds that a system may take for one scenario of one size, and a fifth of those of a full build",
    )
    parser.add_argument(
        "--venvs", type=Path, default=Path(tempfile.gettempdir()) / "trtbuild-bench-venvs", metavar="DIR"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
