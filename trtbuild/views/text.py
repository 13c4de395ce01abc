"""Small parts of texts that several views share."""

from __future__ import annotations

from collections.abc import Sequence


def human_seconds(seconds: float) -> str:
    """A duration as people say it: `4.1 s`, `2 min 05 s`, `1 h 02 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 layer`, `2 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shorten_middle(text: str, width: int) -> str:
    """A text held to a width; what is cut comes from the middle, since ids differ at their ends."""
    if len(text) <= width:
        return text
    if width < 5:
        return text[: max(width, 0)]
    head = (width - 3) // 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def aligned(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Rows of cells as lines whose columns begin at the same place; a column without any text takes no room."""
    columns = range(max((len(row) for row in rows), default=0))
    widths = [max(len(row[at]) for row in rows if at < len(row)) for at in columns]
    lines = []
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False) if width]
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines
