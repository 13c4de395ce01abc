"""Rules of the kernel for what a process may do with files and the network (landlock(7)), which it cannot take back.

They hold for the calling thread and what it starts from then on: a process lays them on before it has threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from functools import cache

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE = 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
# By the version that brought them: removing and making files of every kind, moving between folders, truncating. Of
# what came later, ioctl stays free, since drivers live of it.
_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: _TRUNCATE}
_TCP, _TCP_SINCE = 3, 4


@dataclass(frozen=True, slots=True)
class Rules:
    """Files and folders that may be read, that may be written as well, and those whose files may be but no new ones.

    `listed`: folders whose own names may be asked for, and no file in them read.
    """

    read: tuple[str, ...]
    write: tuple[str, ...]
    listed: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("/dev", "/proc")

    def allow(self, path: str, writes: bool) -> bool:
        """Whether an existing file may be opened."""
        if path in self.listed and not writes:
            return True
        folder = path.rpartition("/")[0]
        if not os.path.islink(path) and _under(folder, self.write, self.devices, () if writes else self.read):
            return True
        return _under(os.path.realpath(path), self.write, self.devices, () if writes else self.read)


@cache
def _under(path: str, *allowed: tuple[str, ...]) -> bool:
    """Whether a path is, or really lies below, one of those given; a file may be given too."""
    given = tuple(f"{os.path.realpath(one).rstrip('/')}/" for group in allowed for one in group)
    return f"{os.path.realpath(path)}/".startswith(given)


def version() -> int:
    """The version of the kernel's rules, 0 where it has none."""
    found: int = ctypes.CDLL(None).syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(0, found)


def restrict(rules: Rules) -> None:
    """Hold this thread and all that it starts to the rules, TCP too where the kernel can. OSError if it cannot."""
    known = version()
    if not known:
        raise OSError(errno.ENOSYS, "the kernel has no Landlock")
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        result: int = libc.syscall(number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    handled = sum(rights for since, rights in _RIGHTS.items() if since <= known)
    network = known >= _TCP_SINCE
    attributes = struct.pack("=QQ", handled, _TCP if network else 0)
    ruleset = call(_CREATE, attributes, ctypes.c_size_t(16 if network else 8), 0)

    def add(path: str, rights: int) -> None:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return
        rights &= handled if os.path.isdir(path) else handled & _OF_FILES
        try:
            call(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
        finally:
            os.close(descriptor)

    try:
        for path in rules.read:
            add(path, _EXECUTE | _READ_FILE | _READ_DIR)
        for path in rules.listed:
            add(path, _READ_DIR)
        for path in rules.devices:
            add(path, _OF_FILES | _READ_DIR)
        for path in (*rules.write, "/dev/shm"):
            add(path, handled)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        call(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
