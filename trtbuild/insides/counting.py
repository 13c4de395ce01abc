"""Many names in few words."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 4


def some(names: Sequence[str], noun: str) -> str:
    """The first few of many names, and how many there are beside them."""
    if len(names) <= SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: SHOWN - 1])} and {len(names) - SHOWN + 1} more {noun}"
