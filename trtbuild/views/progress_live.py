"""What runs now, at the foot of a terminal: a line for each stage that is redrawn, ended ones scroll away above."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from trtbuild.views.text import human_seconds, shorten_middle

_COLOURS = {
    "ran": "green",
    "cached": "dim",
    "failed": "bold red",
    "skipped": "yellow",
    "pending": "yellow",
    "warning:": "yellow",
}
_REDRAWS_A_SECOND = 8
# Below this an id is no help; the time is left out instead.
_LEAST_ID = 16


@dataclass(frozen=True, slots=True)
class _Running:
    step: str
    expected: float | None
    since: float


class LiveView:
    """A live display on a terminal, from when it is made until `close`."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spinner = Spinner("line")
        # Replaced as a whole and never changed: the thread that redraws reads it at any moment.
        self._running: tuple[_Running, ...] = ()
        self._sum = ""
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_REDRAWS_A_SECOND,
            transient=True,
            # Data goes to stdout and must not end up on this stream; what is written to stderr would break the display.
            redirect_stdout=False,
            redirect_stderr=stream is sys.stderr,
        )
        self._live.start()

    def add(self, step: str, expected: float | None) -> None:
        """A stage runs from now on; `expected` is how many seconds it took before."""
        self._running = (*self._running, _Running(step, expected, self._clock()))

    def remove(self, step: str) -> None:
        """A stage does not run any more."""
        self._running = tuple(one for one in self._running if one.step != step)

    def sum_up(self, text: str) -> None:
        """The last line of the display; what was added and removed before shows from now on."""
        self._sum = text
        self._live.refresh()

    def say(self, line: str) -> None:
        """A line that stays, above the display."""
        word = line.partition(" ")[0]
        text = Text(line)
        text.stylize(_COLOURS.get(word, ""), 0, len(word))
        self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        """Take the display away; what was said stays."""
        self._live.stop()

    def _draw(self) -> Text:
        now = self._clock()
        frame = self._spinner.render(now)
        width = self._console.width
        lines = Text(no_wrap=True, overflow="crop")
        for one in self._running:
            lines.append_text(frame if isinstance(frame, Text) else Text(str(frame)))
            lines.append(f" {_line(one, now, width - 2)}\n")
        return lines.append(shorten_middle(self._sum, width), "dim")


def _line(one: _Running, now: float, width: int) -> str:
    elapsed = human_seconds(now - one.since)
    times = f"{elapsed} of about {human_seconds(one.expected)}" if one.expected is not None else elapsed
    for after in (times, elapsed):
        room = width - len(after) - 2
        if room >= min(_LEAST_ID, len(one.step)):
            return f"{shorten_middle(one.step, room)}  {after}"
    return shorten_middle(one.step, width)
