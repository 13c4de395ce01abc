"""A job's process under the sandbox: watched, held to its rules, and what they refused told in words."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtbuild.errors import MachineError, StageError
from trtbuild.reads import PACKAGE
from trtbuild.sandbox import Level
from trtbuild.worker.landlock import Rules, restrict
from trtbuild.worker.observe import Observer, split
from trtbuild.worker.ownership import SYSTEM, Ownership, python_folders

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands over a job: `observer` where it is watched, `warning` where it should be and cannot."""

    owner: Ownership
    level: Level
    observer: Observer | None = None
    warning: str = ""

    def check(self) -> None:
        """StageError that names what the sandbox refused, also where the stage went on without it."""
        if self.level is not Level.ENFORCE or self.observer is None:
            return
        if refused := self.observer.facts().refused:
            more = [f"... and {len(refused) - _SHOWN} more"] if len(refused) > _SHOWN else []
            raise StageError(
                "The sandbox refused files that the stage opened",
                [("refused", "\n".join([*refused[:_SHOWN], *more]))],
                "A stage may read the workspace and the recipe's files, and write below TMPDIR: move the files there.\n"
                "With --sandbox audit nothing is refused, and what is read is noted.",
            )


def enter(folder: Path, data: Mapping[str, Any], discovers: bool) -> Guard:
    """Put this process under the sandbox of its job; must be called while it has one thread.

    The process that returns is a child of the one that called, where it is watched. MachineError where the sandbox must
    be kept and cannot be.
    """
    level = Level(data.get("sandbox", Level.AUDIT))
    workspace = Path(data["workspace"])
    owner = Ownership(workspace, [folder])
    if level is Level.OFF or not (discovers or level is Level.ENFORCE):
        return Guard(owner, level)
    rules = _rules(folder, data) if level is Level.ENFORCE else None
    observer = split(owner, rules.allow if rules else None)
    if isinstance(observer, Observer):
        if rules:
            _restrict(rules)
        return Guard(owner, level, observer)
    if rules:
        raise MachineError("The sandbox cannot be kept", [("reason", observer)], "Run with --sandbox audit.")
    warning = f"What native code and other programs read is not seen, since {observer}"
    return Guard(owner, level, warning=warning)


def _restrict(rules: Rules) -> None:
    try:
        restrict(rules)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError("The sandbox cannot be kept", [("reason", reason)], "Run with --sandbox audit.") from error


def _rules(folder: Path, data: Mapping[str, Any]) -> Rules:
    given = [path for files in data["inputs"].values() for path in files.values()]
    # Where trtbuild is not installed, the folder that it lies in is on the path and holds more than packages.
    path = [os.path.abspath(entry) for entry in sys.path]
    metadata = [str(found) for entry in path for found in Path(entry).glob("*.*-info")]
    packages = [*python_folders(), *(entry for entry in path if entry != PACKAGE), *metadata]
    read = [*packages, *SYSTEM, data["workspace"], *given, *data["files"].values()]
    # What a process that is no fork still imports is looked for there.
    return Rules(read=tuple(dict.fromkeys(read)), write=(str(folder),), listed=(PACKAGE,))
