"""Every artifact of a workspace on this machine's GPU: each loaded in a process of its own, compared, and written down.

    python -m tests.gpu.prove WORKSPACE --json FILE

Prints a line per artifact; exits with 1 where one is not what its source model gives. The file holds date, GPU,
versions, and per artifact its digest, by what it was built, and the verification record.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from trtbuild.errors import TrtbuildError
from trtbuild.gpus import gpus
from trtbuild.outside import verify
from trtbuild.subjects import subjects
from trtbuild.toolchain import distributions

PACKAGES = ("torch", "torch-tensorrt-rtx", "tensorrt-rtx-cu13-bindings")


def prove(workspace: Path) -> list[dict[str, Any]]:
    """Compare every artifact that runs on a GPU; what is compared on a CPU was so where it was built."""
    proven = []
    for subject in subjects([workspace / "dist"]):
        if subject.settings["device"] == "cpu":
            continue
        started = time.monotonic()
        try:
            ((_, record),) = verify([subject.path], other_gpu=True)
        except TrtbuildError as error:
            record = {"status": "failed", "reason": error.render()}
        manifest = subject.manifest
        proven.append(
            {
                "artifact": subject.path.relative_to(workspace / "dist").as_posix(),
                "format": subject.file["format"],
                "target": manifest["target"],
                "precision": manifest["precision"],
                "digest": subject.file["digest"],
                "built_by": manifest["toolchain"],
                "verification": record,
            }
        )
        worst = max((one.get("max_abs") or 0.0 for one in record.get("outputs", ())), default=0.0)
        print(
            f"{record['status']:<7} {proven[-1]['artifact']:<55} {worst:9.2e}  {time.monotonic() - started:5.1f} s",
            str(record.get("reason", ""))[:600],
            flush=True,
        )
    return proven


def main() -> int:
    """Prove, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    (gpu, *_) = gpus()
    proven = prove(options.workspace.resolve())
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
