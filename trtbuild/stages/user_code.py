"""Errors in the user's code, shown with the user's own line."""

from __future__ import annotations

import linecache
import sys
import sysconfig
import traceback
from pathlib import Path

_NOT_THEIRS = tuple(
    str(Path(folder)) + "/"
    for folder in {sysconfig.get_path("stdlib"), sys.prefix, sys.base_prefix, str(Path(__file__).parents[1])}
    if folder
)


def is_theirs(filename: str) -> bool:
    """Whether a source file is the user's own: not Python's, not an installed package's, not ours."""
    return not filename.startswith(("<", *_NOT_THEIRS)) and "site-packages" not in filename


def user_line(error: BaseException) -> str:
    """The innermost line of the user's code behind an error, as `file:line: code`; empty where there is none."""
    if isinstance(error, SyntaxError) and error.filename and is_theirs(error.filename):
        return f"{error.filename}:{error.lineno}: {(error.text or '').strip()}"
    stacks = []
    seen: BaseException | None = error
    while seen is not None:
        stacks.append(list(traceback.extract_tb(seen.__traceback__)))
        # Dynamo traces without running: it keeps the user's stack on the error instead.
        stacks.append(list(getattr(seen, "real_stack", None) or []))
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    for stack in stacks:
        for frame in reversed(stack):
            if is_theirs(frame.filename):
                code = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
                return f"{frame.filename}:{frame.lineno}: {code}"
    return ""


def first_lines(error: BaseException, count: int = 6) -> str:
    """An error's type and the first lines of its text."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: " + "\n".join(lines[:count])
