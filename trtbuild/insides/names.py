"""The names in a folder that a stage listed."""

from __future__ import annotations

from collections.abc import Mapping

from trtbuild.insides.counting import some

RULE = "names 1"
LIMIT = 500


def compared(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The names that came and went, in words."""
    come, gone = ([name for name in one if name not in other] for one, other in ((after, before), (before, after)))
    said = [f"{some(names, 'names')} {end}" for names, end in ((come, "appeared"), (gone, "vanished")) if names]
    return said
