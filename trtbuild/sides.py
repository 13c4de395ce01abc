"""The two records that words are made of, each with what is known of the insides of the files it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.digest import Json
from trtbuild.insides import insides_now, names_inside
from trtbuild.plans import Step
from trtbuild.reads import names_in
from trtbuild.store.local import LocalStore
from trtbuild.words import Side, Teller, Way


def teller(store: LocalStore, step: Step, *, quick: bool = False) -> Teller:
    """What tells of a step's key inputs; `quick`: of what is inside of large outputs no more than is soon read."""
    return Teller(step.files, store.open_meaning, quick)


def side_then(store: LocalStore, found: Mapping[str, Any]) -> Side:
    """A record of the past with its key: what was inside of files was noted in the entry, while that is kept."""
    entries: list[Any] = []

    def inside(way: Way) -> Any:
        if not entries:
            entry = store.entry(found["key"])
            entries.append(entry.details.get("insides") if entry is not None else None)
        value = entries[0]
        for part in way:
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    return Side(found["record"], inside)


def side_now(root: Path, step: Step, record: Mapping[str, Json], *, quick: bool = False) -> Side:
    """A record of the present: what is inside of files is looked up in them; `quick`: not in very large ones."""

    def inside(way: Way) -> Any:
        part, name = way
        if part == "listings":
            names = names_in(str(root), str(name))
            return None if names is None else names_inside(names)
        digests = record.get(str(part))
        digest = digests.get(str(name)) if isinstance(digests, Mapping) else None
        path = step.files.get(str(name), "") if part == "files" else str(name)
        return insides_now(root / path, str(digest), quick)

    return Side(record, inside)


def short_reason(store: LocalStore, root: Path, step: Step, record: Mapping[str, Json]) -> str:
    """Why a step with this record is not in the store, in a few words."""
    history = store.history(step.id)
    if history is None:
        return "not built before"
    then, now = side_then(store, history), side_now(root, step, record, quick=True)
    return teller(store, step, quick=True).first(then, now) or "its output is not in the cache any more"
