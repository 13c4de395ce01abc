"""Run one stage by itself, as its own process, and its artifact in another.

python -m tests.stages.running JOB.json OUT      runs the stage; prints its details or its error as JSON
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from trtbuild.errors import TrtbuildError
from trtbuild.worker.job import Job

EXPORT: dict[str, Any] = {
    "retrace": False,
    "exporter": "new",
    "dynamic_shapes": "explicit",
    "pickle_protocol": 2,
}


def run_stage(
    out: Path,
    module: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Path]],
    files: Mapping[str, Path] | None = None,
    **environment: str,
) -> dict[str, Any]:
    """Run a stage in a process of its own; its details, or {"error", "facts", "hint"}."""
    out.mkdir(parents=True)
    job = {
        "stage": "",
        "settings": settings,
        "inputs": {slot: {name: str(path) for name, path in given.items()} for slot, given in inputs.items()},
        "details": {},
        "files": {slot: str(path) for slot, path in (files or {}).items()},
        "workspace": str(out),
        "module": module,
    }
    described = out.parent / f"{out.name}.json"
    described.write_text(json.dumps(job))
    # As workers run, see worker/environment.py.
    run = {**os.environ, "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": "", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "tests.stages.running", str(described), str(out)],
        cwd=ROOT,
        env=run,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def fresh(code: str, *arguments: str | Path, **environment: str) -> str:
    """What a program prints in a fresh process with nothing of trtbuild in it. Fails where it ends badly."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        cwd="/",
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout


def _main() -> None:
    data = json.loads(Path(sys.argv[1]).read_bytes())
    out = Path(sys.argv[2])
    job = replace(Job.from_json(data, out.parent), out=out)
    try:
        print(json.dumps(importlib.import_module(data["module"]).run(job)))
    except TrtbuildError as error:
        print(json.dumps({**error.as_json(), "facts": error.facts}))


if __name__ == "__main__":
    _main()
