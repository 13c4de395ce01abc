"""Check trtbuild's code against the bindings of a standard TensorRT, from their wheels alone.

    pip download --no-deps tensorrt-cu13-bindings
    python -m tests.standard.check WHEEL... [--json FILE]

Exit code 1 where the code asks for what is not there, or calls it in a way that it cannot be called.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.standard.bindings import from_wheel
from tests.standard.checking import Outcome, check
from tests.standard.declared import NOT_STANDARD, SOME_HAVE, TYPES
from tests.standard.stubs import stubs_of

PACKAGE = Path(__file__).parents[2] / "trtbuild"


def check_wheel(wheel: Path) -> tuple[str, Outcome]:
    """TensorRT's version, and what came out."""
    with tempfile.TemporaryDirectory() as folder:
        version, stubs = stubs_of(from_wheel(wheel, Path(folder, "wheel")), Path(folder, "stubs"))
    return version, check(PACKAGE, stubs, TYPES, (*NOT_STANDARD, *SOME_HAVE))


def as_data(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Outcomes by TensorRT's version as JSON."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": "python -m tests.standard.check WHEEL... --json FILE",
        "python": ".".join(map(str, sys.version_info[:3])),
        "mypy": metadata.version("mypy"),
        "files": sorted(TYPES),
        "tensorrt": {
            version: {
                "names": sorted(outcome.names),
                "names_checked": len(outcome.names),
                "places_checked": outcome.uses,
                "calls_checked": outcome.calls,
                "without_signature": sorted(outcome.unsigned),
                "absent": [asdict(one) for one in outcome.absent],
                "problems": [asdict(problem) for problem in outcome.problems],
            }
            for version, outcome in outcomes.items()
        },
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome there")
    given = parser.parse_args()
    outcomes = dict(check_wheel(wheel) for wheel in given.wheels)
    for version, outcome in outcomes.items():
        print(f"TensorRT {version}: {len(outcome.names)} names in {outcome.uses} places, {outcome.calls} calls")
        for absent in outcome.absent:
            print(f"  not there, and not needed: {absent.name} in {absent.file}:{absent.function}")
        for problem in outcome.problems:
            print(f"  {problem.file}:{problem.line} {problem.function}: {problem.text}")
    if given.json is not None:
        given.json.write_text(json.dumps(as_data(outcomes), indent=1) + "\n")
    return 1 if any(outcome.problems for outcome in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
