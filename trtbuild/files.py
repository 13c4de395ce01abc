"""Small things done to files with care: written whole or not at all, errors as sentences."""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trtbuild.errors import MachineError

_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}")
# The error of a stage that could not write; workers say it, and the run ends with it.
NO_SPACE = "No space is left for the outputs of the stage"
_IN_THE_WAY = "A file lies where a folder is needed: move it, or choose another place with --cache or --dist."


def aside_of(path: Path) -> Path:
    """A new name beside a file, for what is to take its place."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def left_aside(folder: Path) -> list[Path]:
    """What killed processes left under such names in a folder, or what others are about to rename."""
    try:
        return [folder / name for name in os.listdir(folder) if name[0] == "." and _ASIDE.fullmatch(name)]
    except OSError:
        return []


def write_whole(path: Path, data: bytes) -> None:
    """Write a file aside and rename it: a reader sees the old one or the new one, never a part."""
    aside = aside_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole, readable and with a stable order of keys."""
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value of a JSON file, or None where it is absent or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


@contextmanager
def saying_what(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a sentence that names what was being done."""
    try:
        yield
    except OSError as error:
        raise machine_error(action, path, error) from error


def machine_error(action: str, path: Path, error: OSError) -> MachineError:
    """An OSError as a sentence."""
    hints = {
        28: "Free some space, or choose another place with --cache or --dist.",
        13: "Change the permissions, or choose another place with --cache or --dist.",
        17: _IN_THE_WAY,
        20: _IN_THE_WAY,
        30: "The file system is read-only: choose another place with --cache or --dist.",
    }
    return MachineError(
        f"Cannot {action}",
        [("path", str(path)), ("reason", error.strerror or str(error))],
        hints.get(error.errno or 0, ""),
    )


def unique_folder(parent: Path) -> Path:
    """A new folder that no other process can choose."""
    folder = parent / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    return folder
