"""The tests that need a GPU, run on this machine, and how each ended written down.

    python -m tests.gpu.report --json FILE [--jobs N]

What pytest shows goes to the terminal; exits as pytest does.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.gpu.prove import PACKAGES
from trtbuild.gpus import gpus
from trtbuild.toolchain import distributions


class Outcomes:
    """How each test ended: its worst phase."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.of[report.nodeid] = report.outcome


def main() -> int:
    """Run, and write the outcomes with what they were run on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=0, help="tests at once, by pytest-xdist")
    options = parser.parse_args()
    outcomes = Outcomes()
    arguments = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "tests/runtime", "tests/gpu"]
    arguments += ["-n", str(options.jobs)] if options.jobs else []
    code = pytest.main(arguments, plugins=[outcomes])
    (gpu, *_) = gpus()
    kept = {
        "date": date.today().isoformat(),
        "gpu": gpu.name,
        "driver": gpu.driver,
        "versions": {name: distributions()[name] for name in PACKAGES if name in distributions()},
        "tests": dict(sorted(outcomes.of.items())),
    }
    options.json.write_text(json.dumps(kept, indent=1) + "\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
