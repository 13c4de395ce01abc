"""The difference of two JSON records, value by value, each named by an unambiguous path.

A path reads `dims.batch.opt`, `inputs[0].dtype` or `files["models/resnet.py"]`: a name that could be read as more than
one, or as an index, stands in brackets as a JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from trtbuild.digest import Json, canonical

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_DIGEST = re.compile(r"(?:[a-z]+[0-9]*(?:-[0-9]+)?:)?([0-9a-f]{64})")
_DIGEST_SHOWN = 12
_BARE = re.compile(r"[A-Za-z_][^\s\"',]*")
_SHOWN = 40
# How much of what two long values have in common is kept before the place where they part.
_LEAD = 8


@dataclass(frozen=True, slots=True)
class Change:
    """One value that two records do not share. None stands for null, and where `kind` says so for no value at all.

    `way` is the path in parts.
    """

    path: str
    before: Json
    after: Json
    kind: Literal["changed", "added", "removed"]
    way: tuple[str | int, ...] = ()

    def what(self) -> str:
        """What became of the value, long ones shortened: `8 -> 16`, `added 16`, `removed, was 8`."""
        if self.kind == "added":
            return f"added {shown(self.after)}"
        if self.kind == "removed":
            return f"removed, was {shown(self.before)}"
        before, after = shown_pair(self.before, self.after)
        return f"{before} -> {after}"

    def __str__(self) -> str:
        return f"{self.path} {self.what()}"


def changes(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[Change]:
    """Every value that differs, sorted by path; empty where both records have one canonical text."""
    return list(_of_mappings((), before, after))


def _of_values(way: tuple[str | int, ...], before: Json, after: Json) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_mappings(way, before, after)
    elif _is_list(before) and _is_list(after) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _of_values((*way, index), old, new)
    elif canonical(before) != canonical(after):
        # Python holds 1, 1.0 and True for equal; keys do not, so the canonical text is asked.
        yield Change(path_of(way), before, after, "changed", way)


def _of_mappings(way: tuple[str | int, ...], before: Mapping[str, Json], after: Mapping[str, Json]) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        inner = (*way, name)
        if name not in before:
            yield Change(path_of(inner), None, after[name], "added", inner)
        elif name not in after:
            yield Change(path_of(inner), before[name], None, "removed", inner)
        else:
            yield from _of_values(inner, before[name], after[name])


def path_of(way: Sequence[str | int]) -> str:
    """The path of a value from its parts."""
    path = ""
    for part in way:
        path = f"{path}[{part}]" if isinstance(part, int) else join(path, part)
    return path


def join(path: str, name: str) -> str:
    """The path of a value by its name in the mapping at another path."""
    if not _PLAIN_NAME.fullmatch(name):
        return f"{path}[{json.dumps(name)}]"
    return f"{path}.{name}" if path else name


def _is_list(value: Json) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Json) -> str:
    if isinstance(value, str):
        if match := _DIGEST.fullmatch(value):
            return match[1][:_DIGEST_SHOWN]
        # Quotes only where it could be taken for a number, for null, or for more than one word.
        bare = _BARE.fullmatch(value) and value not in ("true", "false", "null")
        return value if bare else json.dumps(value)
    return json.dumps(value, sort_keys=True)


def shown(value: Json) -> str:
    """A value as it stands in a text, a long one shortened."""
    return _cut(_text(value), 0)


def shown_pair(before: Json, after: Json) -> tuple[str, str]:
    """Both values cut where they part, so that what is shown of them is never the same."""
    old, new = _text(before), _text(after)
    if old == new:
        # Digests that begin alike.
        return json.dumps(before, sort_keys=True), json.dumps(after, sort_keys=True)
    return cut_pair(old, new, _SHOWN)


def cut_pair(old: str, new: str, width: int) -> tuple[str, str]:
    """Two texts that differ, each held to a width around the place where they part."""
    if max(len(old), len(new)) <= width:
        return old, new
    common = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, common - _LEAD) if common >= width - _LEAD else 0
    return _cut(old, start, width), _cut(new, start, width)


def _cut(text: str, start: int, width: int = _SHOWN) -> str:
    head = "..." if start else ""
    tail = "..." if len(text) - start > width else ""
    return f"{head}{text[start : start + width - len(head) - len(tail)]}{tail}" if tail else f"{head}{text[start:]}"
