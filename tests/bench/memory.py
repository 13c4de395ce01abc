"""Time, processor time and peak memory of a command with all processes it starts.

Memory is PSS: a page that several processes share counts once over all of them, so that forks of a warm server are
not charged for what they have in common. The kernel's own peaks (ru_maxrss, VmHWM) are of one process, and of RSS.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL = 0.05
_TAIL = 4000
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took.

    `seconds` to its end, `cpu` seconds of a core, `peak` bytes of PSS; `others` says how many cores everybody else on
    the machine used meanwhile, the program that measures included: where that is much, the seconds mean little.
    """

    seconds: float
    cpu: float
    peak: int
    others: float
    output: bytes = b""


class CommandFailed(Exception):
    """A measured command ended with an error: there is nothing to compare."""


@dataclass(slots=True)
class _Sampler:
    """Looks at a tree of processes every now and then, in a thread."""

    root: int
    interval: float
    peak: int = 0
    _cpu: dict[int, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._stop.wait(self.interval):
            processes = list(_tree(self.root))
            self.peak = max(self.peak, sum(_pss(process) for process in processes))
            self._cpu |= {process: cpu for process in processes if (cpu := _cpu(process))}

    @property
    def cpu(self) -> float:
        """Processor time of all processes seen, as last seen."""
        return sum(self._cpu.values())

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
        started, busy = time.perf_counter(), _busy()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log)
        sampler = _Sampler(process.pid, interval or 0)
        with sampler.running() if interval else contextlib.nullcontext():
            output, _ = process.communicate()
            seconds = time.perf_counter() - started
        others = (_busy() - busy - sampler.cpu) / seconds
        if process.returncode:
            log.seek(0)
            text = log.read()[-_TAIL:].decode(errors="replace")
            raise CommandFailed(f"{' '.join(command)} ended with exit code {process.returncode}\n{text}")
    return Usage(seconds, sampler.cpu, sampler.peak, max(0.0, others), output)


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


def _cpu(process: int) -> float:
    with contextlib.suppress(OSError):
        # The command, in brackets, may hold anything; utime and stime are the 12th and 13th field after it.
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0


def _busy() -> float:
    """Seconds that the machine's cores have not been idle, those given to other virtual machines included."""
    fields = [int(text) for text in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    idle, waiting = fields[3:5]
    return (sum(fields) - idle - waiting) / _TICKS
