"""Locks of a store: each a file, gone when nobody holds it. The system lets go of a killed process's locks.

Removing the file of a lock is safe since each taker, once it has the lock, looks whether its file is still the one of
that name: whoever waited for a file that was removed meanwhile begins again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

try:
    import fcntl
except ImportError:  # Windows, where only loading and inspecting are offered
    fcntl = None  # type: ignore[assignment]


class Lock:
    """A lock that is held until it is closed."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path

    def close(self) -> None:
        """Let go of the lock."""
        if self._fd < 0:
            return
        with suppress(OSError):
            self._path.unlink()
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take(path: Path, *, wait: bool) -> Lock | None:
    """The lock of a file, or None where another holds it and this is not to wait. OSError where it cannot be made."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_of(fd, path):
                return Lock(fd, path)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_of(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


class Gate:
    """What lets `cache gc` and `cache verify` remove things: they hold it alone, and who reads or writes shares it.

    Held for moments only. A store that cannot be written to has no gate: nobody removes anything from it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._depth = 0

    def __enter__(self) -> None:
        self._enter(shared=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def alone(self) -> _Alone:
        """To hold it alone. Not within one that is shared."""
        return _Alone(self)

    def _enter(self, *, shared: bool) -> None:
        self._depth += 1
        if self._depth == 1 and fcntl is not None and self._open():
            fcntl.flock(self._fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    def _leave(self) -> None:
        self._depth -= 1
        if self._depth == 0 and self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _open(self) -> bool:
        if self._fd < 0:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        return self._fd >= 0

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class _Alone:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        assert self._gate._depth == 0
        self._gate._enter(shared=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate._leave()
