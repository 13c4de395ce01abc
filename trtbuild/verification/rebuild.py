"""An artifact made again from another program, by the steps that made it the first time.

    python -m trtbuild.verification.rebuild FOLDER

runs the one job of a folder (see `worker.job`) in a process of its own, as stages are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.files import read_json, write_json
from trtbuild.stages.table import layer_of

PROGRAM = "program.pt2"

_LOG_TAIL = 12


@dataclass(frozen=True, slots=True)
class Made:
    """What the steps made: the outputs and details of each, by its kind; `leaf` is the last."""

    outputs: Mapping[str, Mapping[str, Path]]
    details: Mapping[str, Mapping[str, Any]]
    leaf: str


def rebuild(program: Path, steps: Sequence[Mapping[str, Any]], workspace: Path) -> Made:
    """Run steps from a traced program on.

    `steps` are those behind the artifact, in order, each {"kind", "settings", "needs": {slot: kind}}; the trace among
    them does not run. StageError where one fails.
    """
    from trtbuild.digests.program import program_signature

    outputs: dict[str, Mapping[str, Path]] = {"trace": {PROGRAM: program}}
    details: dict[str, Mapping[str, Any]] = {"trace": {"signature": program_signature(program)}}
    for step in [step for step in steps if step["kind"] != "trace"]:
        given = {slot: outputs[kind] for slot, kind in step["needs"].items()}
        told = {slot: details[kind] for slot, kind in step["needs"].items()}
        outputs[step["kind"]], details[step["kind"]] = _run(step, given, told, {}, workspace)
    return Made(outputs, details, steps[-1]["kind"])


def trace(steps: Sequence[Mapping[str, Any]], files: Mapping[str, Path], workspace: Path) -> Path:
    """The traced program behind an artifact, traced again; `files` are the declared input files of the model."""
    step = next(step for step in steps if step["kind"] == "trace")
    outputs, _ = _run(step, {}, {}, files, workspace)
    return outputs[PROGRAM]


def _run(
    step: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Path]],
    details: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, Path],
    workspace: Path,
) -> tuple[dict[str, Path], dict[str, Any]]:
    folder = Path(tempfile.mkdtemp())
    (folder / "out").mkdir()
    job = {
        "stage": step["kind"],
        "settings": step["settings"],
        "inputs": {slot: {name: str(path) for name, path in files.items()} for slot, files in inputs.items()},
        "details": details,
        "files": {slot: str(path) for slot, path in files.items()},
        "options": {},
        "workspace": str(workspace),
    }
    write_json(folder / "job.json", job)
    environment = dict(os.environ)
    if layer_of(step["kind"], step["settings"]) != "gpu":
        # Built as on a machine without a GPU, as the artifact was.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "trtbuild.verification.rebuild", str(folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if not (folder / "result.json").exists():
        end = "\n".join([line for line in done.stderr.splitlines() if line.strip()][-_LOG_TAIL:])
        raise StageError(
            f"The process of `{step['kind']}` ended with exit code {done.returncode} and no result", [("its end", end)]
        )
    result = read_json(folder / "result.json")
    if "error" in result:
        raise StageError(
            f"The artifact cannot be built again with more outputs: {result['error']['error']}",
            [(str(name), str(value)) for name, value in result["error"].get("facts", [])],
        )
    made = {name: folder / "out" / name for name in result["outputs"]}
    made |= {name: inputs[slot][other] for name, (slot, other) in result["copies"].items()}
    return made, result["details"]


def main(folder: Path) -> int:
    """Run the job of a folder in this process and write its result beside it."""
    from trtbuild.worker.job import perform

    write_json(folder / "result.json", perform(folder, read_json(folder / "job.json")))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
