"""A run as it is shown: plain where it is kept, live where someone watches."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from trtbuild.events import Event, RunStarted, StageEnded, StageStarted, Status, Warned
from trtbuild.views.progress import Progress
from trtbuild.views.progress_live import LiveView

RUN: list[Event] = [
    RunStarted(
        ("resnet/trace/fp32", "resnet/onnx/fp32", "resnet/compile/linux/fp32", "resnet/export/linux/fp32/engine")
    ),
    StageEnded("resnet/trace/fp32", Status.CACHED, 0.0),
    StageStarted("resnet/onnx/fp32", "not built before"),
    StageStarted("resnet/compile/linux/fp32", "settings.precision fp32 -> tf32", 5.0),
    Warned("The blob of model.onnx is damaged or gone; it is built again"),
    StageEnded("resnet/onnx/fp32", Status.RAN, 125.2, "as before: stages behind it stay cached"),
    StageEnded("resnet/compile/linux/fp32", Status.FAILED, 4.06, "The model cannot be one engine\nengines 2"),
    StageEnded("resnet/export/linux/fp32/engine", Status.SKIPPED, 0.0, "an input failed"),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def shown(stream: io.StringIO, **options: bool) -> str:
    with Progress(stream, **options) as progress:
        for event in RUN:
            progress(event)
    return stream.getvalue()


def lines_that_stay(text: str) -> list[str]:
    """What is left on a terminal: the text without colours, of each line what was written last."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.rpartition("\r")[2].rstrip() for line in plain.splitlines()]


def test_plain() -> None:
    assert shown(io.StringIO()) == (
        "warning: The blob of model.onnx is damaged or gone; it is built again\n"
        "ran      resnet/onnx/fp32                2 min 05 s  as before: stages behind it stay cached\n"
        "failed   resnet/compile/linux/fp32            4.1 s  The model cannot be one engine\n"
        "skipped  resnet/export/linux/fp32/engine             an input failed\n"
    )


def test_verbose_says_why_a_stage_starts() -> None:
    text = shown(io.StringIO(), verbose=True)
    assert "start    resnet/compile/linux/fp32        settings.precision fp32 -> tf32\n" in text


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_says_nothing(stream: io.StringIO) -> None:
    assert shown(stream, quiet=True) == ""


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    assert shown(Terminal()) == shown(io.StringIO())


def test_the_plain_view_imports_nothing_heavy() -> None:
    code = (
        "import io, sys\n"
        "from trtbuild.events import RunStarted, StageEnded, StageStarted, Status\n"
        "from trtbuild.views.progress import Progress\n"
        "with Progress(io.StringIO()) as progress:\n"
        "    for event in (RunStarted(('a',)), StageStarted('a', ''), StageEnded('a', Status.RAN, 1.0)):\n"
        "        progress(event)\n"
        "print(sorted({'rich', 'networkx', 'pydantic', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_terminal_with_nothing_to_run_shows_nothing_and_imports_nothing() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress(RunStarted(("a", "b")))
        progress(StageEnded("a", Status.CACHED, 0.0))
        progress(StageEnded("b", Status.CACHED, 0.0))
    assert stream.getvalue() == ""


def test_a_terminal_keeps_what_ended_and_sums_up_what_was_cached() -> None:
    text = shown(Terminal())
    stay = lines_that_stay(text)
    assert "ran      resnet/onnx/fp32                2 min 05 s  as before: stages behind it stay cached" in stay
    assert "failed   resnet/compile/linux/fp32            4.1 s  The model cannot be one engine" in stay
    assert "warning: The blob of model.onnx is damaged or gone; it is built again" in stay
    assert not any(line.startswith("cached") for line in stay)
    assert "1 cached, 2 of 4 done" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_verbose_terminal_shows_cached_stages_one_by_one() -> None:
    assert "cached   resnet/trace/fp32" in lines_that_stay(shown(Terminal(), verbose=True))


def test_the_cursor_comes_back_when_the_run_breaks_off() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(stream) as progress:
        for event in RUN[:4]:
            progress(event)
        raise KeyboardInterrupt
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3\d[;m]")
    assert colour.search(shown(Terminal()))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(shown(Terminal()))


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (100, "resnet/cross-compile/windows/fp32/exported_program  3.0 s of about 1 min 20 s"),
        (60, "resnet/cross-c...ported_program  3.0 s of about 1 min 20 s"),
        (40, "resnet/cross-c...ported_program  3.0 s"),
        (14, "resn...ogram"),
    ],
)
def test_a_running_stage_fits_the_terminal(columns: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    now = 0.0
    view = LiveView(Terminal(), clock=lambda: now)
    view.add("resnet/cross-compile/windows/fp32/exported_program", 80.0)
    now = 3.0
    drawn = view._draw().plain
    view.close()
    first = drawn.splitlines()[0]
    assert first[2:] == line and len(first) <= columns
