"""A seccomp filter that asks another process about every path a process names to the kernel (seccomp_unotify(2)).

Only what the calls mean for paths is kept here: `CALLS` says which argument is the path, and how it is meant. The
filter lets everything pass; who listens sees a call before it is made, and lets it go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from enum import Enum, auto


class Use(Enum):
    """What a call does with a path."""

    OPEN = auto()
    ASK = auto()
    RUN = auto()
    CHANGE = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: which of its arguments name paths, each after its folder's descriptor where it has one."""

    use: Use
    paths: tuple[tuple[int | None, int], ...]
    flags: int | None = None


def _at(use: Use, flags: int | None = None) -> Call:
    return Call(use, ((0, 1),), flags)


_OPENAT, _ASKAT, _ASK = _at(Use.OPEN, 2), _at(Use.ASK), Call(Use.ASK, ((None, 0),))
_RENAMEAT = Call(Use.CHANGE, ((0, 1), (2, 3)))
# openat2 hands its flags over in memory, so they are not known here.
_CALLS = {
    "x86_64": {
        2: Call(Use.OPEN, ((None, 0),), 1),
        4: _ASK,  # stat
        6: _ASK,  # lstat
        21: _ASK,  # access
        59: Call(Use.RUN, ((None, 0),)),  # execve
        82: Call(Use.CHANGE, ((None, 0), (None, 1))),  # rename
        87: Call(Use.CHANGE, ((None, 0),)),  # unlink
        89: _ASK,  # readlink
        257: _OPENAT,
        262: _at(Use.ASK, 3),  # newfstatat
        263: _at(Use.CHANGE),  # unlinkat
        264: _RENAMEAT,
        267: _ASKAT,  # readlinkat
        269: _ASKAT,  # faccessat
        316: _RENAMEAT,  # renameat2
        322: _at(Use.RUN),  # execveat
        332: _at(Use.ASK, 2),  # statx
        437: _at(Use.OPEN),  # openat2
        439: _ASKAT,  # faccessat2
    },
    "aarch64": {
        35: _at(Use.CHANGE),  # unlinkat
        38: _RENAMEAT,
        48: _ASKAT,  # faccessat
        56: _OPENAT,
        78: _ASKAT,  # readlinkat
        79: _at(Use.ASK, 3),  # newfstatat
        221: Call(Use.RUN, ((None, 0),)),  # execve
        276: _RENAMEAT,  # renameat2
        281: _at(Use.RUN),  # execveat
        291: _at(Use.ASK, 2),  # statx
        437: _at(Use.OPEN),  # openat2
        439: _ASKAT,  # faccessat2
    },
}
_MACHINE = os.uname().machine
CALLS = _CALLS.get(_MACHINE, {})
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_IO_URING_SETUP = 425

_AT_EMPTY_PATH = 0x1000
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NO_SUCH_CALL = 0x00050000 | errno.ENOSYS

_RECEIVE, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = 1

_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def install() -> int:
    """Put this thread, and all that it starts from here on, under the filter; returns the listener's descriptor.

    OSError where the kernel or a container around us does not allow it.
    """
    if not CALLS:
        raise OSError(errno.ENOSYS, f"no table of system calls for {_MACHINE}")
    libc = ctypes.CDLL(None, use_errno=True)
    # Without it only root may filter; and a program with the set-user-id bit must not be lied to.
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _last_error()
    instructions = _instructions()
    array = (_Instruction * len(instructions))(*(_Instruction(*instruction) for instruction in instructions))
    program = _Program(len(instructions), array)
    # With the second flag a signal does not break off a call that is being answered; it came with Linux 5.19.
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        listener: int = libc.syscall(_SECCOMP[_MACHINE], _SET_MODE_FILTER, flags, ctypes.byref(program))
        if listener >= 0:
            return listener
        if ctypes.get_errno() != errno.EINVAL:
            break
    raise _last_error()


def _instructions() -> list[tuple[int, int, int, int]]:
    """The filter: other architectures and unknown calls pass, calls on descriptors alone pass, the rest notifies."""
    number, architecture, arguments = 0, 4, 16
    # One block per way to tell a call on a descriptor from one on a path.
    plain = [call for call, meaning in CALLS.items() if meaning.use is not Use.ASK or meaning.flags is None]
    asking = {call: meaning.flags for call, meaning in CALLS.items() if call not in plain}
    body: list[tuple[int, int, int, int]] = [(_EQUAL, 0, 1, _IO_URING_SETUP), (_RETURN, 0, 0, _NO_SUCH_CALL)]
    for call in plain:
        body += [(_EQUAL, 0, 1, call), (_RETURN, 0, 0, _NOTIFY)]
    for call, flags in asking.items():
        assert flags is not None
        body += [
            (_EQUAL, 0, 4, call),
            (_LOAD, 0, 0, arguments + 8 * flags),
            (_ANY_BIT, 0, 1, _AT_EMPTY_PATH),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _NOTIFY),
        ]
    return [
        (_LOAD, 0, 0, architecture),
        (_EQUAL, 1, 0, _ARCHITECTURE[_MACHINE]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, number),
        *body,
        (_RETURN, 0, 0, _ALLOW),
    ]


class Listener:
    """The far end of a filter."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._buffer = bytearray(_NOTIFICATION.size)
        # Since Linux 6.6 both sides may take turns on one core, which costs half as much.
        with contextlib.suppress(OSError):
            fcntl.ioctl(descriptor, _SET_FLAGS, _SYNC_WAKE_UP)

    def receive(self) -> tuple[int, ...] | None:
        """A call that waits: (id, thread, flags, number, architecture, address, its six arguments).

        None where the caller is gone before it could be asked about.
        """
        self._buffer[:] = _EMPTY
        try:
            fcntl.ioctl(self.descriptor, _RECEIVE, self._buffer, True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        return _NOTIFICATION.unpack(self._buffer)

    def let_go_on(self, id: int) -> None:
        """Let a call be made as it stands."""
        try:
            fcntl.ioctl(self.descriptor, _SEND, _ANSWER.pack(id, 0, 0, _CONTINUE))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


_EMPTY = bytes(_NOTIFICATION.size)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
