"""Which installed distributions the modules of a name belong to.

`importlib.metadata.packages_distributions` answers the same, and reads every record as a table for it, which takes a
twentieth of the time of a trace.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

from trtbuild.toolchain import normal_name

_METADATA = re.compile(r"(?P<name>.+?)-[^-]+\.(?:dist|egg)-info")
_ENDS = tuple(suffix.encode() for suffix in (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES))


def owners() -> dict[str, set[str]]:
    """The distributions, by normal name, of each top-level name of a package or module that belongs to any."""
    found: dict[str, set[str]] = {}
    for folder in sys.path:
        for entry in _entries(folder):
            if match := _METADATA.fullmatch(entry):
                for name in _names(Path(folder) / entry):
                    found.setdefault(name, set()).add(normal_name(match["name"]))
    return found


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _names(metadata: Path) -> set[str]:
    for listing in ("top_level.txt", "RECORD"):
        try:
            lines = (metadata / listing).read_bytes().split(b"\n")
        except OSError:
            continue
        # A package's many lines come down to one before they are looked at.
        tops = {line.partition(b"/")[0] for line in lines}
        return {_module(top.partition(b",")[0].strip()).decode(errors="replace") for top in tops}
    return set()


def _module(file: bytes) -> bytes:
    return next((file.removesuffix(end) for end in _ENDS if file.endswith(end)), file)
