"""A run as it happens: plain lines where they are kept, a live view where someone watches.

The plain view imports nothing; the live one (see `progress_live`) is imported when the first stage starts to run, so
that a run with nothing to do costs nothing in a terminal either.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from trtbuild.events import Event, RunStarted, StageEnded, StageStarted, Status, Warned
from trtbuild.views.text import human_seconds

if TYPE_CHECKING:
    from trtbuild.views.progress_live import LiveView


class Progress:
    """Listens to a run and shows it on a stream. `live` is decided by the stream where it is not given.

    `quiet` shows nothing; `verbose` shows why stages start, and each stage that comes from the cache.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        live: bool | None = None,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self._stream = stream
        self._live = _watched(stream) if live is None else live
        self._quiet = quiet
        self._verbose = verbose
        self._view: LiveView | None = None
        self._total = 0
        self._width = 0
        self._cached = 0
        self._ended = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, RunStarted):
            self._total = len(event.steps)
            self._width = max((len(step) for step in event.steps), default=0)
            self._cached = self._ended = 0
        if self._quiet:
            return
        if isinstance(event, StageStarted):
            self._started(event)
        elif isinstance(event, StageEnded):
            self._over(event)
        elif isinstance(event, Warned):
            self._say(f"warning: {event.text.removeprefix('error: ')}")

    def _started(self, event: StageStarted) -> None:
        if self._verbose:
            self._say(f"{'start':<8} {event.step:<{self._width}}  {event.reason}".rstrip())
        if self._live:
            if self._view is None:
                from trtbuild.views.progress_live import LiveView

                self._view = LiveView(self._stream)
            self._view.add(event.step, event.expected_seconds)
            self._tell_sum()

    def _over(self, event: StageEnded) -> None:
        self._ended += 1
        self._cached += event.status is Status.CACHED
        if self._view is not None:
            self._view.remove(event.step)
            self._tell_sum()
        # What is pending is said of each artifact; why, of each stage only to who asks.
        if event.status not in (Status.CACHED, Status.PENDING) or self._verbose:
            self._say(self._line(event))

    def _line(self, event: StageEnded) -> str:
        took = human_seconds(event.seconds) if event.status in (Status.RAN, Status.FAILED) else ""
        note = event.note.strip().partition("\n")[0]
        return f"{event.status:<8} {event.step:<{self._width}} {took:>10}  {note}".rstrip()

    def _tell_sum(self) -> None:
        if self._view is not None:
            cached = f"{self._cached} cached, " if self._cached else ""
            self._view.sum_up(f"{cached}{self._ended} of {self._total} done")

    def _say(self, line: str) -> None:
        if self._view is not None:
            self._view.say(line)
        else:
            print(line, file=self._stream, flush=True)


def _watched(stream: TextIO) -> bool:
    """Whether someone sits at a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
