"""What a stage and all that it starts ask of files, seen at the kernel: native code and other programs included.

The process of a job splits in two. The child runs the stage under a filter (see `seccomp`); the parent is told each
path before the call is made, notes those that are the user's, and lets the call go on. It ends as the child ends, so
that who waits for it learns what became of the stage. It was there first, and so may read the child's memory.

What is seen of a path is what was true when it was first used: what the stage itself makes of it later is no input.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from stat import S_ISREG
from typing import Any, NoReturn

from trtbuild import reads
from trtbuild.worker.ownership import Ownership
from trtbuild.worker.seccomp import CALLS, Call, Listener, Use, install

Sign = tuple[int, int, int]

_AT_FDCWD = 0xFFFFFF9C
_OPENAT2 = 437
_PAGE = 4096
_SHORT = 256


@dataclass(slots=True)
class Facts:
    """What was seen of the user's paths, which are absolute.

    `opened` holds the sign of a file when it was first opened, None where there was none; `both` those opened for
    reading and writing; `changed` what was written, renamed or removed, and `born` what of it had not been read before.
    `asked` holds what there was when it was first asked for (see `reads.state`); `listed` the digest of a folder's
    names when it was first opened as a folder, and how often it was. `refused` is what the sandbox does not allow.
    """

    opened: dict[str, Sign | None] = field(default_factory=dict)
    both: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    born: set[str] = field(default_factory=set)
    asked: dict[str, str | None] = field(default_factory=dict)
    listed: dict[str, tuple[str | None, int]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    trouble: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=sorted)

    @staticmethod
    def from_json(text: str) -> Facts:
        data: dict[str, Any] = json.loads(text)
        opened = {path: tuple(sign) if sign else None for path, sign in data["opened"].items()}
        listed = {path: (digest, count) for path, (digest, count) in data["listed"].items()}
        sets = {name: set(data[name]) for name in ("both", "changed", "born")}
        return Facts(**{**data, **sets, "opened": opened, "listed": listed})


class Observer:
    """The stage's end of the line to the process that watches it."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def begin(self) -> None:
        """Forget what was seen up to now: it was not the stage's."""
        self._ask(b"!")

    def facts(self) -> Facts:
        """What was seen since it began."""
        return Facts.from_json(self._ask(b"?").decode())

    def _ask(self, question: bytes) -> bytearray:
        self._line.sendall(question)
        received = bytearray()
        while not received.endswith(b"\n"):
            if not (data := self._line.recv(1 << 20)):
                raise ConnectionError("the process that watched the stage is gone")
            received += data
        return received


def split(owner: Ownership, allowed: Callable[[str, bool], bool] | None = None) -> Observer | str:
    """Return in a child that is watched from here on, or say why it cannot be; the parent never returns.

    `allowed` says whether the sandbox lets a file be opened, for writing too or not.
    """
    near, far = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        far.close()
        _watch(pid, near, owner, allowed)
    near.close()
    from trtbuild.worker.server import die_with_parent

    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    try:
        listener = install()
    except OSError as error:
        far.close()
        return f"the kernel refuses to report file accesses: {error.strerror}"
    socket.send_fds(far, [b"+"], [listener])
    os.close(listener)
    trouble = far.recv(_PAGE).decode()
    return Observer(far) if trouble == "+" else trouble


def sign(path: str) -> Sign | None:
    """What tells one content of a file from another without reading it; None where there is no file to be read."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino) if S_ISREG(stat.st_mode) else None


def _watch(pid: int, line: socket.socket, owner: Ownership, allowed: Callable[[str, bool], bool] | None) -> NoReturn:
    """Serve a child until it ends, then end as it did."""
    try:
        _, descriptors, _, _ = socket.recv_fds(line, 1, 1)
        if descriptors:
            _serve(pid, line, _Notes(owner, allowed), Listener(descriptors[0]))
    finally:
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
            os.kill(os.getpid(), -code)
        os._exit(code)


def _serve(pid: int, line: socket.socket, notes: _Notes, listener: Listener) -> None:
    memory = _Memory(pid)
    try:
        memory.open()
        line.sendall(b"+")
    except OSError as error:
        line.sendall(f"the kernel does not let a process read its children's memory: {error.strerror}".encode())
    ended = os.pidfd_open(pid)
    poll = select.poll()
    for descriptor in (ended, listener.descriptor, line):
        poll.register(descriptor, select.POLLIN)
    wait, receive, let_go_on = poll.poll, listener.receive, listener.let_go_on
    while True:
        for descriptor, events in wait():
            if descriptor == listener.descriptor:
                if events & select.POLLIN and (call := receive()) is not None:
                    try:
                        notes.note(call, memory)
                    except (ProcessLookupError, FileNotFoundError):
                        pass
                    except Exception as error:
                        # The call must go on whatever happens here; that something was missed is said at the end.
                        notes.facts.trouble = notes.facts.trouble or f"{type(error).__name__}: {error}"
                    let_go_on(call[0])
                elif events & select.POLLHUP:
                    poll.unregister(descriptor)
            elif descriptor == ended:
                return
            elif question := line.recv(1):
                if question == b"!":
                    notes.forget()
                line.sendall(notes.facts.to_json().encode() + b"\n")
            else:
                poll.unregister(descriptor)


class _Memory:
    """The memory of the stage's threads and of what they start."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._kept = -1

    def open(self) -> None:
        """Open the memory of the stage's first thread, which makes most calls. OSError where it may not be read."""
        self._kept = os.open(f"/proc/{self._pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def text(self, thread: int, address: int) -> bytes:
        """The bytes at an address up to the first zero; none where nothing is there, so that the call will fail."""
        found = self._read(thread, address, _SHORT)
        end = found.find(0)
        if end < 0 and len(found) == _SHORT:
            found = self._read(thread, address, _PAGE)
            end = found.find(0)
        return found[:end] if end >= 0 else b""

    def word(self, thread: int, address: int) -> int:
        """The 64 bits at an address."""
        found: int = struct.unpack("=Q", self._read(thread, address, 8))[0]
        return found

    def renew(self, thread: int) -> None:
        """A thread is about to run another program, in a memory of its own."""
        if thread == self._pid and self._kept >= 0:
            os.close(self._kept)
            self._kept = -1

    def _read(self, thread: int, address: int, size: int) -> bytes:
        try:
            if thread == self._pid and self._kept >= 0:
                return os.pread(self._kept, size, address)
            # Not kept open: a number of a thread comes to stand for another, and a fork for another program.
            other = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(other, size, address)
            finally:
                os.close(other)
        except OSError as error:
            if error.errno == errno.EIO:
                return b""
            raise


class _Notes:
    """Makes facts of calls. What is known to add nothing is passed over first: most calls name packages' files."""

    def __init__(self, owner: Ownership, allowed: Callable[[str, bool], bool] | None) -> None:
        self.facts = Facts()
        self._owner = owner
        self._allowed = allowed
        self._asked: set[bytes] = set()
        self._foreign: set[bytes] = set()

    def forget(self) -> None:
        """Begin anew."""
        self.facts = Facts()
        self._asked.clear()

    def note(self, call: tuple[int, ...], memory: _Memory) -> None:
        """Note one call, as the listener gives it."""
        _, thread, _, number, _, _, *arguments = call
        meaning = CALLS[number]
        for folder, path in meaning.paths:
            raw = memory.text(thread, arguments[path])
            # A path with `..` may lead out of the folder that its text begins with.
            plain = raw[:1] == b"/" and b".." not in raw
            passed = self._allowed is None or meaning.use is Use.ASK
            if passed and plain and raw.rpartition(b"/")[0] in self._foreign:
                continue
            if meaning.use is Use.ASK and raw in self._asked:
                continue
            if raw:
                name = _absolute(os.fsdecode(raw), thread, None if folder is None else arguments[folder])
                flags = self._flags(meaning, number, thread, arguments, memory)
                self._note(meaning.use, name, flags)
                if meaning.use is Use.RUN:
                    memory.renew(thread)
            if plain:
                if meaning.use is Use.ASK:
                    self._asked.add(raw)
                if not self._owner.their_folder(os.fsdecode(raw).rpartition("/")[0]):
                    self._foreign.add(raw.rpartition(b"/")[0])

    @staticmethod
    def _flags(meaning: Call, number: int, thread: int, arguments: list[int], memory: _Memory) -> int:
        if number == _OPENAT2:
            return memory.word(thread, arguments[2])
        return arguments[meaning.flags] & 0xFFFFFFFF if meaning.flags is not None else 0

    def _note(self, use: Use, path: str, flags: int) -> None:
        if self._allowed is not None and use in (Use.OPEN, Use.RUN):
            self._note_refused(path, flags)
        if not self._owner.theirs(path) or (use in (Use.ASK, Use.RUN) and self._owner.of_programs(path)):
            return
        if "/__pycache__/" in path:
            path = _source_of(path)
            if not path or use is not Use.OPEN or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        if use is Use.CHANGE:
            self._note_change(path)
        elif use is Use.ASK or (use is Use.OPEN and flags & os.O_PATH):
            self._note_asked(path)
        elif use is Use.OPEN and flags & os.O_DIRECTORY:
            self._note_listed(path)
        elif use is Use.OPEN and flags & (os.O_WRONLY | os.O_TRUNC):
            self._note_change(path)
        else:
            self._note_opened(path, flags)

    def _note_opened(self, path: str, flags: int) -> None:
        if os.path.isdir(path):
            self._note_asked(path)
            return
        found = sign(path)
        if flags & (os.O_RDWR | os.O_CREAT):
            if found is None:
                self._note_change(path)
            elif path not in self.facts.opened:
                self.facts.both.add(path)
        self.facts.opened.setdefault(path, found)

    def _note_change(self, path: str) -> None:
        self.facts.changed.add(path)
        if path not in self.facts.opened:
            self.facts.born.add(path)

    def _note_asked(self, path: str) -> None:
        if path not in self.facts.asked:
            self.facts.asked[path] = reads.state(path)

    def _note_listed(self, path: str) -> None:
        known = self.facts.listed.get(path)
        digest, count = known if known else (reads.listing(self._owner.root, self._owner.relative(path)), 0)
        self.facts.listed[path] = digest, count + 1

    def _note_refused(self, path: str, flags: int) -> None:
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        assert self._allowed is not None
        if not self._allowed(path, writes) and (os.path.exists(path) or writes) and path not in self.facts.refused:
            self.facts.refused.append(path)


def _absolute(name: str, thread: int, folder: int | None) -> str:
    if not name.startswith("/"):
        number = None if folder is None else folder & 0xFFFFFFFF
        at = "cwd" if number is None or number == _AT_FDCWD else f"fd/{number}"
        name = f"{os.readlink(f'/proc/{thread}/{at}')}/{name}"
    if ".." in name.split("/"):
        # After a link `..` is not what its text says.
        folder_name, _, last = name.rpartition("/")
        return os.path.abspath(os.path.realpath(name) if last == ".." else f"{os.path.realpath(folder_name)}/{last}")
    return os.path.normpath(name)


def _source_of(path: str) -> str:
    """The source that a file of bytecode stands for: a fresh one is opened in its place."""
    from importlib.util import source_from_cache

    with contextlib.suppress(ValueError, NotImplementedError):
        return source_from_cache(path)
    return ""


def why_not() -> str:
    """Why stages cannot be observed on this machine; empty where they can. Asks a process of its own, by trying."""
    import subprocess

    command = [sys.executable, "-P", "-m", "trtbuild.worker.observe"]
    package = str(os.path.abspath(f"{__file__}/../../.."))
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    said = done.stdout.strip()
    return "" if said == "+" else said or f"trying it ended with exit code {done.returncode}"


def _try() -> None:
    from pathlib import Path

    here = Path(__file__)
    observer = split(Ownership(here.parent / "nowhere"))
    if isinstance(observer, Observer):
        with contextlib.suppress(OSError):
            os.stat("/trtbuild-looks-for-this")
        seen = observer.facts()
        print("+" if "/trtbuild-looks-for-this" in seen.asked else f"the kernel reports nothing {seen.trouble}".strip())
    else:
        print(observer)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _try()
