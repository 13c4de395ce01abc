"""Every artifact of a workspace on this machine's GPU: each loaded in a process of its own, compared, and written down.

    python -m tests.gpu.prove WORKSPACE --json FILE

Prints a line per artifact; exits with 1 where one is not what its source model gives. The file holds date, GPU,
versions, and per artifact its digest, by what it was built, and the verification record.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from trtbuild.errors import TrtbuildError
from trtbuild.gpus import gpus
from trtbuild.outside import Work, perform, write_verification
from trtbuild.subjects import subjects
from trtbuild.toolchain import distributions

PACKAGES = ("torch", "torch-tensorrt-rtx", "tensorrt-rtx-cu13-bindings")


def prove(workspace: Path, jobs: int) -> list[dict[str, Any]]:
    """Compare every artifact that runs on a GPU; what is compared on a CPU was so where it was built."""
    found = [one for one in subjects([workspace / "dist"]) if one.settings["device"] != "cpu"]
    works = [Work(one, one.settings, {"other_gpu": True, "report": True}) for one in found]
    records: dict[Path, dict[str, Any]] = {}
    for subject, result in perform("verify", works, jobs=jobs):
        record = {"status": "failed", "reason": result.render()} if isinstance(result, TrtbuildError) else result
        write_verification(subject, record)
        records[subject.path] = record
        worst = max((one.get("max_abs") or 0.0 for one in record.get("outputs", ())), default=0.0)
        shown = subject.path.relative_to(workspace / "dist").as_posix()
        print(f"{record['status']:<7} {shown:<55} {worst:9.2e}", str(record.get("reason", ""))[:900], flush=True)
    return [
        {
            "artifact": subject.path.relative_to(workspace / "dist").as_posix(),
            "format": subject.file["format"],
            "target": subject.manifest["target"],
            "precision": subject.manifest["precision"],
            "digest": subject.file["digest"],
            "built_by": subject.manifest["toolchain"],
            "verification": records[subject.path],
        }
        for subject in found
    ]


def main() -> int:
    """Prove, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    (gpu, *_) = gpus()
    proven = prove(options.workspace.resolve(), options.jobs)
    kept = {
        "date": date.today().isoformat(),
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver": gpu.driver,
        "versions": {name: distributions()[name] for name in PACKAGES if name in distributions()},
        "results": proven,
    }
    options.json.write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if proven and all(one["verification"]["status"] == "passed" for one in proven) else 1


if __name__ == "__main__":
    sys.exit(main())
