"""Writes down that recipes have nothing left to do, and all that was looked at to know it (see `settled`).

First the signs are taken, then everything is decided and published once more under them: what changes a file after its
sign was taken shows in the sign, and what changed before shows in the decision.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from trtbuild.plans import Cell, Plan, Step
from trtbuild.proofs import Pending
from trtbuild.publish import Artifact
from trtbuild.reads import parts_of, watched_paths
from trtbuild.resolve import Resolver
from trtbuild.settled import Standing
from trtbuild.signs import Clock, sign
from trtbuild.store.entry import Entry

# Where a file changed in the very tick that is now, the next one is waited for.
_TICK = 0.005
_TICKS = 4

Publish = Callable[[Plan, Mapping[str, Entry]], list[Artifact]]


def settle(
    standing: Standing,
    recipes: Mapping[Path, bytes],
    plan: Plan,
    entries: Mapping[str, Entry],
    pending: Mapping[str, Pending],
    resolver: Resolver,
    publish: Publish,
) -> None:
    """Write a line for each recipe all of whose stages have an entry or cannot be run here.

    That it cannot be written costs time only.
    """
    clock = resolver.digests.clock
    lines: dict[str, dict[str, Any]] = {}
    cells: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        cells.setdefault(cell.recipe, []).append(cell)
    for path, text in recipes.items():
        part = plan.only(cells[path.stem])
        if not all(step.id in entries or step.id in pending for step in part.steps):
            continue
        with contextlib.suppress(OSError, _Unsettled):
            lines[os.path.realpath(path)] = _line(standing, path, text, part, entries, pending, resolver, publish)
    if lines:
        with contextlib.suppress(OSError, _Unsettled):
            standing.add(lines, lambda: _signs(clock, _environment()))


class _Unsettled(Exception):
    """Something changed meanwhile, or may have without a trace."""


def _line(
    standing: Standing,
    path: Path,
    text: bytes,
    plan: Plan,
    entries: Mapping[str, Entry],
    pending: Mapping[str, Pending],
    resolver: Resolver,
    publish: Publish,
) -> dict[str, Any]:
    root, dist = str(resolver.workspace.root), str(resolver.workspace.dist)
    inputs = {os.path.realpath(path)}
    for step in plan.steps:
        inputs |= {os.path.join(root, file) for file in step.files.values()}
        inputs |= _named_by(step, root)
        if step.id in entries and (seen := parts_of(entries[step.id].record)):
            inputs |= {os.path.join(root, file) for file in watched_paths(seen)}
    made = {f"{dist}/{Path(cell.path).parent}/{name}" for cell in plan.buildable() for name in _files(cell, entries)}
    # The folder tells of what a killed run left aside in it.
    made |= {f"{dist}/{Path(cell.path).parent}" for cell in plan.buildable()}
    signs = _signs(resolver.digests.clock, inputs | made)
    known = _with_digests(signs, resolver)
    # A stat goes through a link, so it does not tell where the link points.
    links = {file: os.readlink(file) for file in sorted(inputs | made) if os.path.islink(file)}

    if path.read_bytes() != text or not _decided(plan, entries, pending, resolver):
        raise _Unsettled
    artifacts = publish(plan, entries)
    if _signs(resolver.digests.clock, inputs | made) != signs:
        raise _Unsettled
    kept = {file for entry in entries_of(plan, entries) for file in resolver.store.files_of(entry)}
    return {
        "signs": _by_base(known, standing.place.bases()),
        "links": links,
        "sizes": {str(file.relative_to(resolver.store.root)): file.stat().st_size for file in sorted(kept)},
        "stages": [
            [
                *(step.id_in(path.stem), step.kind),
                *([entries[step.id].key] if step.id in entries else [pending[step.id].key, pending[step.id].reason]),
            ]
            for step in plan.steps
        ],
        "artifacts": [artifact.to_json() for artifact in artifacts],
        "left_out": [astuple(cell) for cell in plan.cells if cell.reason],
    }


def entries_of(plan: Plan, entries: Mapping[str, Entry]) -> Iterable[Entry]:
    """The entries of a plan's steps."""
    return (entries[step.id] for step in plan.steps if step.id in entries)


def _named_by(step: Step, root: str) -> set[str]:
    """The file of an entry point: its absence is an error of the recipe, whatever the trace read."""
    entry = str(step.settings.get("entry", "")).rpartition(":")[0]
    return {os.path.join(root, entry)} if entry.endswith(".py") else set()


def _files(cell: Cell, entries: Mapping[str, Entry]) -> list[str]:
    return ["manifest.json", *entries[cell.step].outputs]


def _decided(plan: Plan, entries: Mapping[str, Entry], pending: Mapping[str, Pending], resolver: Resolver) -> bool:
    """Whether each step would be taken from the store as it was, or still be pending."""
    for step in plan.steps:
        decision = resolver.decide(step, {slot: entries[need] for slot, need in step.needs.items()})
        if step.id in pending and decision.key == pending[step.id].key:
            continue
        if decision.entry is None or decision.key != entries[step.id].key:
            return False
    return True


def _signs(clock: Clock, paths: Iterable[str]) -> dict[str, Sequence[int] | None]:
    """The signs of files that can be trusted; _Unsettled where one cannot."""
    signs: dict[str, Sequence[int] | None] = {}
    for path in sorted(paths):
        for _ in range(_TICKS):
            try:
                stat = clock.trusted(path)
            except OSError:
                signs[path] = None
                break
            if stat is not None:
                signs[path] = sign(stat)
                break
            time.sleep(_TICK)
        else:
            raise _Unsettled
    return signs


def _with_digests(signs: Mapping[str, Any], resolver: Resolver) -> dict[str, Any]:
    """Signs of files with the digests of their content: one that was only touched is still known."""
    digests = {path: resolver.digests.of(path) for path, found in signs.items() if found is not None}
    return {path: [*found, digests[path]] if digests.get(path) else found for path, found in signs.items()}


def _by_base(signs: Mapping[str, Any], bases: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Signs by what their paths are relative to, so that lines stay short."""
    found: dict[str, dict[str, Any]] = {}
    for path, value in signs.items():
        letter = next((letter for letter, base in bases.items() if path.startswith(base)), "")
        found.setdefault(letter, {})[path.removeprefix(bases[letter])] = value
    return found


def _environment() -> list[str]:
    """trtbuild's own code, and the folders that tell which packages are installed."""
    package = Path(__file__).parent
    return [*map(str, package.rglob("*.py")), *(os.path.abspath(folder) for folder in sys.path)]
