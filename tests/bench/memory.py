"""Time and peak memory of a command with all processes it starts.

Memory is PSS: a page that several processes share counts once over all of them, so that forks of a warm server are
not charged for what they have in common. The kernel's own peaks (ru_maxrss, VmHWM) are of one process, and of RSS.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL = 0.05
_TAIL = 4000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took. `seconds` to its end, `peak` bytes of PSS, `sampling` seconds of a core spent on looking."""

    seconds: float
    peak: int
    sampling: float
    output: bytes


class CommandFailed(Exception):
    """A measured command ended with an error: there is nothing to compare."""


@dataclass(slots=True)
class _Sampler:
    """Looks at a tree of processes every now and then, in a thread."""

    root: int
    interval: float
    peak: int = 0
    spent: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._stop.wait(self.interval):
            self.peak = max(self.peak, sum(_pss(process) for process in _tree(self.root)))
        self.spent = time.thread_time()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def measure(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], interval: float | None = INTERVAL
) -> Usage:
    """Run a command to its end; without an interval its memory is not looked at."""
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log)
        sampler = _Sampler(process.pid, interval or 0)
        with sampler.running() if interval else contextlib.nullcontext():
            output, _ = process.communicate()
            seconds = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            text = log.read()[-_TAIL:].decode(errors="replace")
            raise CommandFailed(f"{' '.join(command)} ended with exit code {process.returncode}\n{text}")
    return Usage(seconds, sampler.peak, sampler.spent, output)


def _tree(root: int) -> Iterator[int]:
    yield root
    with contextlib.suppress(OSError):
        # Children belong to the thread that forked them.
        for thread in Path(f"/proc/{root}/task").iterdir():
            for child in (thread / "children").read_text(encoding="ascii").split():
                yield from _tree(int(child))


def _pss(process: int) -> int:
    # A process may end between being found and being read.
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
