"""One run of a command, measured from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCH = Path(__file__).with_name("launch.py")
_TAIL = 600


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run took: seconds of wall time and of a core, MiB of its largest process at its peak."""

    seconds: float
    cpu: float
    mebibytes: float


class RunFailed(Exception):
    """A command ended with an error, or did not do what it was to do."""


class TooSlow(Exception):
    """A command was stopped at the end of its time."""


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float) -> Sample:
    """Run a command to its end. TooSlow where that takes longer than `limit` seconds, RunFailed where it fails."""
    log = folder.with_suffix(".stderr")
    launcher = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LAUNCH), str(log), *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = launcher.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        # The group was made for this command, and holds all that it started.
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
        raise TooSlow from None
    except BaseException:
        os.killpg(launcher.pid, signal.SIGKILL)
        raise
    seconds, cpu, kibibytes, code = output.split()
    if code != "0":
        raise RunFailed(f"exit code {code}: {log.read_text(encoding='utf-8', errors='replace')[-_TAIL:].strip()}")
    return Sample(float(seconds), float(cpu), int(kibibytes) / 1024)
