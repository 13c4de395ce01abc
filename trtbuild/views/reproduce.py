"""How a second build compared with the first, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtbuild.views.text import aligned

if TYPE_CHECKING:
    from trtbuild.reproduce import Check


def render_checks(checks: Sequence[Check]) -> str:
    """A line for each stage, below it where its two builds part, and a line that sums up."""
    rows = aligned([(check.verdict, check.id) for check in checks], indent="")
    lines = [line for row, check in zip(rows, checks, strict=True) for line in (row, *(f"  {w}" for w in check.where))]
    counts = Counter(str(check.verdict) for check in checks)
    order = ("same bytes", "same meaning", "differs", "failed", "skipped")
    summed = ", ".join(f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict])
    return "\n".join([*lines, f"built twice: {summed}"])
