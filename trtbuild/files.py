"""Small things done to files with care: written whole or not at all, digested no more often than needed."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Any

from trtbuild.digest import digest_file
from trtbuild.errors import MachineError

# A file changed within this span before it was digested could have been changed again within the same tick of the
# clock: its stat is not trusted (git calls such an index entry racy).
_RACY_NS = 2_000_000_000
# The error of a stage that could not write; workers say it, and the run ends with it.
NO_SPACE = "No space is left for the outputs of the stage"
_IN_THE_WAY = "A file lies where a folder is needed: move it, or choose another place with --cache or --dist."


def write_whole(path: Path, data: bytes) -> None:
    """Write a file aside and rename it: a reader sees the old one or the new one, never a part."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
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


class Digests:
    """Digests of files, remembered by their stat so that an unchanged file is never digested twice."""

    def __init__(self, memory: Path | None = None) -> None:
        self._path = memory
        self._known: dict[str, list[Any]] = (read_json(memory) or {}) if memory else {}
        self._dirty = False

    def of(self, path: Path) -> str | None:
        """sha256 of a file, or None where there is none that can be read."""
        try:
            stat = path.stat()
        except OSError:
            return None
        if not S_ISREG(stat.st_mode):
            return None
        sign = [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]
        known = self._known.get(str(path))
        if known is not None and known[:4] == sign:
            return str(known[4])
        now = time.time_ns()
        try:
            digest = digest_file(path)
        except PermissionError:
            return None
        except OSError as error:
            raise machine_error("read a file", path, error) from error
        if now - max(stat.st_mtime_ns, stat.st_ctime_ns) > _RACY_NS:
            self._known[str(path)] = [*sign, digest]
            self._dirty = True
        return digest

    def save(self) -> None:
        """Keep what was learned for the next run; losing it costs time only."""
        if self._dirty and self._path is not None:
            with contextlib.suppress(OSError):
                write_whole(self._path, json.dumps(self._known).encode())


def unique_folder(parent: Path) -> Path:
    """A new folder that no other process can choose."""
    folder = parent / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    return folder
