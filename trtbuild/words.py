"""Changes of key inputs in words. `run` and `plan` show the first of the sentences that `explain` shows.

They are made of the records that decided, and of small facts about what was inside of files (see `insides`): where
such are missing the sentence names the file alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

from trtbuild.changes import Change, changes, path_of, shown, shown_pair
from trtbuild.digest import Json

Way = Sequence[str | int]
Inside = Callable[[Way], Any]
Open = Callable[[str], BinaryIO | None]

_QUICK_LIMIT = 1 << 23
_VERSION = re.compile(r"[\w.+!-]{1,40}")
_KINDS = ("program", "engine", "onnx")
_NO_LONGER = {"added": "is {} now", "removed": "is not {} any more"}
_COMPILE_OPTIONS = ("settings", "options")


def _unknown(way: Way) -> None:
    """Knows of no insides."""


@dataclass(frozen=True, slots=True)
class Side:
    """A record, and how to find what was inside of the file that a value of it is the digest of; None: not known."""

    record: Mapping[str, Json]
    inside: Inside = _unknown


@dataclass(frozen=True, slots=True)
class Told:
    """A change of a key input, and what it is in words: one sentence or more."""

    change: Change
    words: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        change = self.change
        told: dict[str, Any] = {"path": change.path, "kind": change.kind}
        return told | {"before": change.before, "after": change.after, "words": list(self.words)}


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells the changes of one step's key inputs.

    `files` are its declared files by slot; `open` gives a file of a canonical digest, None where there is none.
    `quick`: nothing is looked into for which much would have to be read.
    """

    files: Mapping[str, str]
    open: Open
    quick: bool = False

    def told(self, before: Side, after: Side) -> list[Told]:
        """Every change between two records, each with at least one sentence."""
        found = changes(before.record, after.record)
        return [Told(change, tuple(self._words(change, before, after))) for change in found]

    def first(self, before: Side, after: Side) -> str:
        """The first sentence and how many changes there are beside it; empty where nothing changed."""
        found = changes(before.record, after.record)
        if not found:
            return ""
        sentences = self._words(found[0], before, after)
        more = len(found) - 1 + len(sentences) - 1
        return sentences[0] + (f" and {more} more" if more else "")

    def _words(self, change: Change, before: Side, after: Side) -> list[str]:
        part, rest = change.way[0], change.way[1:]
        if part in ("reads", "files") and len(rest) == 1:
            return self._file(str(part), str(rest[0]), change, before, after)
        if part == "inputs" and len(rest) == 2:
            return self._output(str(rest[1]), change)
        if part == "settings" and rest:
            return [_setting(change, before.record, after.record)]
        if part in ("toolchain", "distributions") and len(rest) == 1:
            return [_version(str(part), str(rest[0]), change)]
        if part == "exists" and len(rest) == 1:
            return [_existence(str(rest[0]), change)]
        if part == "listings" and len(rest) == 1:
            return _listing(str(rest[0]), change, before.inside(change.way), after.inside(change.way))
        if part == "modules" and len(rest) >= 3 and rest[1] == "found":
            return [_module(str(rest[2]), before.record, after.record, change)]
        if part == "code" and change.kind == "changed":
            return [f"trtbuild's own code of this stage {change.what()}"]
        return [str(change)]

    def _file(self, part: str, name: str, change: Change, before: Side, after: Side) -> list[str]:
        shown_name = self.files.get(name, name) if part == "files" else name
        if change.kind != "changed":
            absent = " but absent" if change.kind == "added" and change.after is None else ""
            verb = {"files": "given", "reads": "read"}[part]
            return [f"{shown_name} {_NO_LONGER[change.kind].format(verb)}{absent}"]
        if change.before is None:
            return [f"{shown_name} appeared"]
        if change.after is None:
            return [f"{shown_name} vanished"]
        from trtbuild.insides import compared

        found = compared(before.inside(change.way), after.inside(change.way))
        return [f"{shown_name}: {text}" for text in found] or [f"{shown_name}: content {change.what()}"]

    def _output(self, name: str, change: Change) -> list[str]:
        if change.kind == "changed" and isinstance(change.before, str) and isinstance(change.after, str):
            kind = next((kind for kind in _KINDS if change.before.startswith(f"{kind}-")), "")
            kind = "json" if not kind and name.endswith(".json") else kind
            if kind and (found := _differences(self.open, change.before, change.after, kind, self.quick)):
                return [f"{name}: {text}" for text in found]
        return [f"{name} {change.what()}"]


@lru_cache(maxsize=64)
def _differences(open: Open, before: str, after: str, kind: str, quick: bool) -> tuple[str, ...]:
    """What two outputs differ in, by their canonical digests; asked for once."""
    from trtbuild.digests.difference import meaning_differences

    with ExitStack() as stack:
        old, new = open(before), open(after)
        for file in (old, new):
            if file is None:
                return ()
            size = stack.enter_context(file).seek(0, 2)
            file.seek(0)
            # Of a program only the graph is read, of the others all.
            if quick and kind != "program" and size > _QUICK_LIMIT:
                return ()
        assert old is not None and new is not None
        return tuple(meaning_differences(old, new, kind))


def _setting(change: Change, before: Mapping[str, Json], after: Mapping[str, Json]) -> str:
    way = change.way[1:]
    if way[0] == "inputs":
        old, new = (_at(record, ("settings", "inputs")) for record in (before, after))
        if len(way) == 1 and (names := _names(old)) is not None and (others := _names(new)) is not None:
            gone = [f"inputs.{name} removed" for name in names if name not in others]
            come = [f"inputs.{name} added" for name in others if name not in names]
            return ", ".join([*gone, *come]) or f"inputs {change.what()}"
        if len(way) == 3 and way[2] == "name":
            return "inputs.{} renamed {}".format(*shown_pair(change.before, change.after))
        if len(way) > 2 and isinstance(way[1], int) and (others := _names(new)) is not None:
            return f"{path_of(('inputs', others[way[1]], *way[2:]))} {change.what()}"
    # Users know the settings of the compile stage by the section they are written in.
    named = ("compile", *way[1:]) if change.way[:2] == _COMPILE_OPTIONS else way
    return f"{path_of(named)} {change.what()}"


def _at(record: Mapping[str, Json], way: Way) -> Any:
    value: Any = record
    for part in way:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _names(inputs: Any) -> list[str] | None:
    """The names of a recipe's inputs; None where these are no such list."""
    if not isinstance(inputs, list) or not all(
        isinstance(spec, Mapping) and isinstance(spec.get("name"), str) for spec in inputs
    ):
        return None
    return [spec["name"] for spec in inputs]


def _version(part: str, name: str, change: Change) -> str:
    if part == "toolchain" and name == "cpu":
        name = "the instruction set of this machine's CPU:"
    if change.kind == "added":
        return f"{name} {_plain(change.after)}, asked for now"
    if change.kind == "removed":
        return f"{name} not asked for any more"
    old, new = _plain(change.before), _plain(change.after)
    if old == new:
        old, new = shown_pair(change.before, change.after)
    return f"{name} {old} -> {new}"


def _plain(version: Json) -> str:
    """A version as people write it."""
    if version is None:
        return "not installed"
    return version if isinstance(version, str) and _VERSION.fullmatch(version) else shown(version)


def _existence(path: str, change: Change) -> str:
    if change.kind != "changed":
        return f"{path} {_NO_LONGER[change.kind].format('asked for')}"
    if change.before is None:
        return f"{path} appeared"
    return f"{path} vanished" if change.after is None else f"{path} {change.what()}"


def _listing(folder: str, change: Change, before: Any, after: Any) -> list[str]:
    shown_name = f"{folder.rstrip('/')}/"
    if change.kind != "changed":
        return [f"{shown_name} {_NO_LONGER[change.kind].format('listed')}"]
    if change.before is None:
        return [f"{shown_name} appeared"]
    if change.after is None:
        return [f"{shown_name} vanished"]
    from trtbuild.insides import compared

    found = compared(before, after)
    return [f"{shown_name}: {text}" for text in found] or [f"{shown_name}: its names {change.what()}"]


def _module(name: str, before: Mapping[str, Json], after: Mapping[str, Json], change: Change) -> str:
    places = [_at(record, change.way[:4]) for record in (before, after)]
    if all(isinstance(found, list) and found for found in places) and places[0][0] != places[1][0]:
        return "import {}: {} -> {}".format(name, *shown_pair(places[0][0], places[1][0]))
    if change.kind == "changed":
        return f"import {name}: its other places {change.what()}"
    found = change.after if change.kind == "added" else change.before
    where = shown(found[0]) if isinstance(found, list) and found else shown(found)
    return f"import {name}: {'found now' if change.kind == 'added' else 'not found any more'}, {where}"
