"""Why a stage failed, said with the facts that are at hand: its own error, the end of its log, the signal."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import MachineError, StageError

_LOG_TAIL = 12


# Signals that come from outside: the system that wants its memory back, or a user.
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")


class Crashed(StageError):
    """The process of a stage ended by itself without a result."""


def _log_tail(log: Path) -> list[tuple[str, str]]:
    try:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        return []
    # What faulthandler writes goes on for long, and its first lines tell the most.
    fatal = next((index for index, line in enumerate(lines) if line.startswith("Fatal Python error")), len(lines))
    shown = lines[max(0, fatal - 3) : fatal + 7] if fatal < len(lines) else lines[-_LOG_TAIL:]
    return [("log", str(log)), *([("its end", "\n".join(shown))] if shown else [])]


def full(step: str, cache: Path, log: Path) -> MachineError:
    """The disk of the store is full."""
    return MachineError(
        f"No space is left in the cache for the outputs of `{step}`",
        [("cache", str(cache)), ("free", f"{shutil.disk_usage(cache).free:,} bytes"), ("log", str(log))],
        "Free some space, or choose another place with --cache. What was finished is kept.",
    )


def crashed(step: str, status: int, log: Path) -> StageError:
    """The process of a stage ended without a result; `status` is negative for a signal. Crashed if by itself."""
    import signal

    if status >= 0:
        return Crashed(f"The process of `{step}` ended with exit code {status} and no result", _log_tail(log))
    name = signal.Signals(-status).name if -status in signal.Signals._value2member_map_ else f"signal {-status}"
    hint = (
        "The system kills processes that take too much memory: build fewer stages at once with -j 1."
        if name == "SIGKILL"
        else ""
    )
    kind = StageError if name in _FROM_OUTSIDE else Crashed
    return kind(f"The process of `{step}` was killed by {name}", _log_tail(log), hint)


def reported(step: str, error: Mapping[str, Any], log: Path) -> StageError:
    """The error that a stage reported itself."""
    facts = [("stage", step), *((name, str(value)) for name, value in error["facts"])]
    if error.get("traceback"):
        facts.append(("traceback", str(error["traceback"]).strip()))
    if log.exists():  # a stage that only names what is there prints nothing
        facts.append(("log", str(log)))
    return StageError(str(error["error"]), facts, str(error.get("hint", "")))
