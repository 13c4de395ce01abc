"""How far stages are held: off, audit (watched at the kernel), enforce (and refused what they were not given)."""

from __future__ import annotations

import os
from enum import StrEnum
from functools import cache

from trtbuild.errors import MachineError, UsageError, did_you_mean

VARIABLE = "TRTBUILD_SANDBOX"


class Level(StrEnum):
    """`off`: what a stage reads is seen by Python alone, and native code's reads are not. `audit`: the kernel tells
    too, where it can. `enforce`: in addition stages may open only what they are given, and this must be possible."""

    OFF = "off"
    AUDIT = "audit"
    ENFORCE = "enforce"


def level_of(given: str | None = None) -> Level:
    """The level that was asked for, by the command, else by TRTBUILD_SANDBOX. UsageError where it is none."""
    name = given or os.environ.get(VARIABLE) or Level.AUDIT
    try:
        return Level(name)
    except ValueError:
        where = "--sandbox" if given else VARIABLE
        raise UsageError(
            f"There is no sandbox level `{name}`", [("named by", where)], did_you_mean(name, list(Level))
        ) from None


def require(level: Level) -> None:
    """MachineError where this machine cannot hold stages to a level that must be kept."""
    if level is not Level.ENFORCE:
        return
    problems = [("missing", problem) for problem in (cannot_observe(), cannot_restrict()) if problem]
    if problems:
        raise MachineError(
            "This machine cannot enforce the sandbox",
            problems,
            "--sandbox audit notes what stages read as far as this machine can, and refuses nothing.",
        )


@cache
def cannot_observe() -> str:
    """Why the kernel cannot tell what stages read; empty where it can."""
    from trtbuild.worker.observe import why_not

    return why_not()


def cannot_restrict() -> str:
    """Why the kernel cannot refuse files to stages; empty where it can."""
    from trtbuild.worker.landlock import version

    return "" if version() else "the kernel has no Landlock (Linux 5.13 or later, and `landlock` among its lsm=)"


def still_good(by: object, level: Level) -> bool:
    """Whether what an earlier run saw a stage read may decide for a run of this level.

    What Python alone saw may leave out what native code read; it counts where no more is asked for, or can be had.
    """
    return by == "kernel" or level is Level.OFF or (level is Level.AUDIT and bool(cannot_observe()))
