"""Signs of files: what stat says of them, when it can be trusted, and digests remembered by it.

A sign stands for a file's content as long as no change can leave it as it was. A change always moves the file's ctime,
but within one tick of the file system's clock it may move it to where it is already: git calls such a file racy. So a
sign is trusted only where the ctime lies before a tick of that same clock that was seen before the sign was taken.
"""

from __future__ import annotations

import contextlib
import os
import time
from stat import S_ISREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

# size, mtime_ns, inode, ctime_ns
Sign = tuple[int, int, int, int]

# Where a file lies on another file system than the clock, or the clock cannot be read: the coarsest tick in use (FAT).
_COARSEST_NS = 2_000_000_000
# Below this size reading a file costs about what remembering it does.
_WORTH_REMEMBERING = 1 << 16


def sign(stat: os.stat_result) -> Sign:
    """The sign of a stat."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns


class Clock:
    """The clock of the file system that a folder lies on, read as the time stamp of a file that is changed now."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._fd = -1
        self.device = -1
        self._now = 0

    def trusted(self, path: str) -> os.stat_result | None:
        """The stat of a file if any change from here on will show in it, else None. OSError where there is none."""
        stat = os.stat(path)
        if stat.st_ctime_ns < self._now and stat.st_dev == self.device:
            return stat
        self._tick()
        stat = os.stat(path)
        if stat.st_dev == self.device:
            return stat if stat.st_ctime_ns < self._now else None
        return stat if stat.st_ctime_ns < time.time_ns() - _COARSEST_NS else None

    def now(self) -> int:
        """The time stamp of a change made now, in nanoseconds; 0 where the clock cannot be read."""
        self._tick()
        return self._now

    def _tick(self) -> None:
        try:
            if self._fd < 0:
                if self._folder is None:
                    return
                self._fd = os.open(f"{self._folder}/clock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.utime(self._fd)
            stat = os.fstat(self._fd)
        except OSError:
            self._folder = None
            return
        self.device, self._now = stat.st_dev, stat.st_ctime_ns

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class Digests:
    """Digests of files, those of large ones remembered by their signs: an unchanged file is never digested twice."""

    def __init__(self, memory: Path | None = None) -> None:
        self._path = memory
        self._known: dict[str, list[Any]] | None = None if memory else {}
        self._dirty = False
        self.clock = Clock(str(memory.parent) if memory else None)

    def of(self, path: Path | str) -> str | None:
        """sha256 of a file, or None where there is none that can be read."""
        name = os.fspath(path)
        try:
            stat = os.stat(name)
        except OSError:
            return None
        if not S_ISREG(stat.st_mode):
            return None
        large = stat.st_size >= _WORTH_REMEMBERING
        if large:
            known = self._memory().get(name)
            if known is not None and tuple(known[:4]) == sign(stat):
                return str(known[4])
        # Asked before the file is read: what changes it while it is read then shows in its next sign.
        trusted = self._trusted(name) if large else None
        from trtbuild.digest import digest_file

        try:
            digest = digest_file(name)
        except PermissionError:
            return None
        except OSError as error:
            from pathlib import Path

            from trtbuild.files import machine_error

            raise machine_error("read a file", Path(name), error) from error
        if trusted is not None:
            self._remember(name, trusted, digest)
        return digest

    def learn(self, path: Path | str, written: os.stat_result, digest: str) -> None:
        """Remember the digest of a file that was written aside, with that stat, and renamed to where it lies now."""
        name = os.fspath(path)
        stat = self._trusted(name)
        # A rename moves the ctime alone.
        if stat is not None and sign(stat)[:3] == sign(written)[:3] and stat.st_size >= _WORTH_REMEMBERING:
            self._remember(name, stat, digest)

    def learn_since(self, path: Path | str, digest: str, since: int) -> None:
        """Remember a digest that another process took after `since` (see `Clock.now`), if no change came after that."""
        name = os.fspath(path)
        stat = self._trusted(name)
        if stat is None or stat.st_size < _WORTH_REMEMBERING or stat.st_dev != self.clock.device:
            return
        if stat.st_ctime_ns < since:
            self._remember(name, stat, digest)

    def save(self) -> None:
        """Keep what was learned for the next run; losing it costs time only."""
        if not self._dirty or self._path is None:
            return
        from trtbuild.store.checked import write_checked

        self._dirty = False
        kept = {name: known for name, known in self._memory().items() if os.path.exists(name)}
        with contextlib.suppress(OSError):
            write_checked(self._path, kept)

    def _trusted(self, name: str) -> os.stat_result | None:
        try:
            return self.clock.trusted(name)
        except OSError:
            return None

    def _remember(self, name: str, stat: os.stat_result, digest: str) -> None:
        self._memory()[name] = [*sign(stat), digest]
        self._dirty = True

    def _memory(self) -> dict[str, list[Any]]:
        if self._known is None:
            from trtbuild.store.checked import read_checked

            found = read_checked(self._path) if self._path else None
            self._known = {}
            for name, known in found.items() if isinstance(found, dict) else ():
                if isinstance(known, list) and len(known) == 5 and isinstance(known[4], str) and len(known[4]) == 64:
                    self._known[name] = known
        return self._known
