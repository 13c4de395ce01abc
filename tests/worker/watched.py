"""Models run as a trace runs them, each in a fork of a process that has imported what a server has.

python -m tests.worker.watched FOLDER LEVEL NAME...

Once <FOLDER>/<name>.prepare has run for each name, <FOLDER>/<name>/net.py is imported with that folder as the workspace
and <FOLDER>/.jobs/<name> as the job's. Prints JSON:

{name: {"status": exit status, "peak": bytes, "seen": what was read, "warning": "", "error": [kind, sentence, ...]}}
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT


def watch(folder: Path, names: list[str], level: str = "audit", **environment: str) -> dict[str, Any]:
    """What each of the models is seen to read."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-m", "tests.worker.watched", str(folder), level, *names]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def watch_one(workspace: Path, level: str = "audit", **environment: str) -> dict[str, Any]:
    """What the one model in a workspace is seen to read, or how it ended."""
    found: dict[str, Any] = watch(workspace.parent, [workspace.name], level, **environment)[workspace.name]
    return found


def main() -> None:
    folder, level, *names = sys.argv[1:]
    with contextlib.suppress(ImportError):
        if any(text in (Path(folder) / name / "net.py").read_text() for name in names for text in ("torch", "numpy")):
            import numpy  # noqa: F401
            import torch.export

            torch.set_num_threads(1)
    from trtbuild.worker import guard, watch  # noqa: F401

    for name in names:
        if (prepare := Path(folder) / f"{name}.prepare").exists():
            with contextlib.chdir(Path(folder) / name):
                exec(prepare.read_text())
    print()
    print(json.dumps({name: _run(Path(folder) / name, Path(folder) / ".jobs" / name, level) for name in names}))


def _run(workspace: Path, job: Path, level: str) -> dict[str, Any]:
    job.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _stage(workspace, job, level)
        finally:
            os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    found = json.loads((job / "seen.json").read_text()) if (job / "seen.json").exists() else {}
    return {"status": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss * 1024, **found}


def _stage(workspace: Path, job: Path, level: str) -> int:
    from trtbuild.errors import TrtbuildError
    from trtbuild.stages.model import _import_file
    from trtbuild.worker.guard import enter
    from trtbuild.worker.watch import Watch

    found: dict[str, Any] = {}
    os.chdir(workspace)
    os.environ["TMPDIR"] = str(job)
    try:
        data = {"workspace": str(workspace), "sandbox": level, "inputs": {}, "files": {}}
        guard = enter(job, data, discovers=True)
        watch = Watch(guard.owner, guard.observer)
        try:
            _import_file(workspace / "net.py", "net.py:x")
        finally:
            guard.check()
        found = {"seen": watch.finish(), "warning": guard.warning}
    except TrtbuildError as error:
        found = {"error": [type(error).__name__, error.sentence, error.facts, error.hint]}
    (job / "seen.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    main()
