"""One stage in its own process: from the job's folder to its result.

<folder>/job.json      what to run (see `Job`)
<folder>/log           all the process prints, native code included
<folder>/out/          the outputs, by name
<folder>/tmp/          TMPDIR of the stage
<folder>/result.json   written last: outputs with digests, details, reads; or the error
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtbuild.errors import TrtbuildError
from trtbuild.files import NO_SPACE, write_json

if TYPE_CHECKING:
    from trtbuild.worker.guard import Guard


@dataclass(frozen=True, slots=True)
class Job:
    """What a stage gets.

    `inputs` holds, by slot and output name, the files other steps made; `files` the declared input files by slot;
    `details` the details of the inputs' entries by slot; `options` what changes no result that is kept. The stage
    writes its outputs below `out` and returns small facts; `copies` among these names outputs that are outputs of an
    input: {name: (slot, name there)}.
    """

    stage: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, Path]]
    details: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, Path]
    workspace: Path
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_json(data: Mapping[str, Any], folder: Path) -> Job:
        return Job(
            stage=data["stage"],
            settings=data["settings"],
            inputs={slot: {name: Path(p) for name, p in files.items()} for slot, files in data["inputs"].items()},
            details=data["details"],
            files={slot: Path(path) for slot, path in data["files"].items()},
            workspace=Path(data["workspace"]),
            out=folder / "out",
            options=data.get("options", {}),
        )


def main(folder_name: str) -> int:
    """Run the job of a folder in this process, which is its own. Returns the exit code."""
    from trtbuild.stages.table import stage_kind
    from trtbuild.worker.guard import enter

    folder = Path(folder_name)
    data = json.loads((folder / "job.json").read_bytes())
    try:
        guard = enter(folder, data, stage_kind(data["stage"]).discovers)
        # The process that watches stays as small as it is: what follows is the child's alone.
        gc.enable()
        _prepare_process(folder, Path(data["workspace"]))
        result = perform(folder, data, guard)
    except TrtbuildError as error:
        result = {"error": {**error.as_json(), "facts": error.facts}}
    print(result.get("error", {}).get("traceback", ""), file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    write_json(folder / "result.json", result)
    return 0


def perform(folder: Path, data: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
    """Run a job in this process and return its result, errors included; `guard` is what the process stands under."""
    from trtbuild.stages.table import stage_kind

    kind = stage_kind(data["stage"])
    job = Job.from_json(data, folder)
    started = time.perf_counter()
    try:
        watch = None
        if kind.discovers and guard is not None:
            from trtbuild.worker.watch import Watch

            watch = Watch(guard.owner, guard.observer, declared=job.files.values())
        details = importlib.import_module(kind.module).run(job)
        if guard is not None:
            guard.check()
        reads = watch.finish() if watch else details.pop("reads", None)
        if reads:
            from trtbuild.insides import insides_of_reads

            details["insides"] = {**details.get("insides", {}), **insides_of_reads(job.workspace, reads)}
        return {
            "outputs": _outputs(job.out, meaning=not kind.leaf),
            "copies": details.pop("copies", {}),
            "reads": reads,
            "details": details,
            "seconds": round(time.perf_counter() - started, 3),
            "warning": guard.warning if guard is not None else "",
        }
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return {"error": _told(error, guard)}


def _prepare_process(folder: Path, workspace: Path) -> None:
    for name in ("out", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # A crash of native code then leaves the Python lines that led to it in the log.
    faulthandler.enable(2, all_threads=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["TMPDIR"] = str(folder / "tmp")
    # Importing torch has set it to a folder that all users' processes share, and that it looks into while it traces.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "tmp" / "inductor")
    import tempfile

    tempfile.tempdir = None
    os.chdir(workspace)


def _outputs(out: Path, meaning: bool) -> dict[str, Any]:
    """The files below `out` with their digests; what no other stage reads needs no digest of its meaning."""
    from trtbuild.digests.outputs import describe_output

    return {
        path.relative_to(out).as_posix(): describe_output(path, meaning=meaning)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def _told(error: BaseException, guard: Guard | None) -> dict[str, Any]:
    """An error of a stage in words. What the sandbox refused comes first: libraries name it badly or not at all."""
    try:
        if guard is not None:
            guard.check()
    except TrtbuildError as refused:
        said = error.sentence if isinstance(error, TrtbuildError) else f"{type(error).__name__}: {error}"
        facts = refused.facts if error.args == refused.args else [*refused.facts, ("the stage then said", said)]
        return {**refused.as_json(), "facts": facts}
    if isinstance(error, TrtbuildError):
        return {**error.as_json(), "facts": error.facts}
    return _unexpected(error)


def _unexpected(error: BaseException) -> dict[str, Any]:
    if isinstance(error, MemoryError):
        return {
            "error": "The stage ran out of memory",
            "facts": [],
            "hint": "Build fewer stages at once with -j 1.",
            "traceback": "",
        }
    if isinstance(error, OSError) and error.errno == 28:
        facts = [("path", str(error.filename or "")), ("reason", error.strerror or "")]
        return {"error": NO_SPACE, "facts": facts, "hint": "", "traceback": ""}
    return {
        "error": "The stage failed with an error that trtbuild has no words for",
        "facts": [("raised", f"{type(error).__name__}: {error}")],
        "hint": "",
        "traceback": traceback.format_exc(),
    }


if __name__ == "__main__":
    from trtbuild.worker.server import die_with_parent

    die_with_parent()
    sys.exit(main(sys.argv[1]))
