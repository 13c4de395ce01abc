"""The values in a JSON or TOML file, each by its path; long ones by a digest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trtbuild.changes import join
from trtbuild.digest import digest_bytes

RULE = "data 1"

_VALUES = 500
_SHORT = 40
_SHOWN = 5
# Where a value is noted by its digest; no JSON text begins so.
_DIGEST = "#"


def parts_of(path: Path) -> dict[str, str]:
    """{path: the value as JSON}, of a file with very many values those of its upper levels; ValueError where it is no
    such file, or has too many values even so."""
    text = path.read_bytes()
    if path.suffix == ".toml":
        import tomllib

        value = tomllib.loads(text.decode())
    else:
        value = json.loads(text)
    for depth in (16, 4, 2, 1):
        found = dict(_leaves("", value, depth))
        if len(found) <= _VALUES:
            return found
    raise ValueError(f"{path.name} has too many values to be noted one by one.")


def _leaves(path: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value and depth:
        for name, item in value.items():
            yield from _leaves(join(path, name), item, depth - 1)
    elif isinstance(value, list) and value and depth:
        for index, item in enumerate(value):
            yield from _leaves(f"{path}[{index}]", item, depth - 1)
    else:
        # TOML has dates, which JSON writes as text.
        text = json.dumps(value, sort_keys=True, default=str)
        yield path, text if len(text) <= _SHORT else f"{_DIGEST}{digest_bytes(text.encode())[:16]}"


def compared(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The values that differ, in words."""
    said = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        shown = name or "the value"
        if new is None:
            said.append(f"{shown} removed")
        elif old is None:
            said.append(f"{shown} added" + ("" if new.startswith(_DIGEST) else f", {new}"))
        elif old != new:
            hidden = _DIGEST in (old[:1], new[:1])
            said.append(f"{shown}, a long value" if hidden else f"{shown} {old} -> {new}")
    more = len(said) - _SHOWN
    return [*said[:_SHOWN], *([f"{more} more values"] if more > 0 else [])] or ["only layout"]
