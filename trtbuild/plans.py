"""The plan: which steps lead to which artifacts. Plain data, so that a remembered plan needs no library to read.

A step is one stage with its settings; its key is not known here, since it depends on content (see `keys`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trtbuild.digest import Json

# What a step is taken to last while nothing is remembered of it.
UNKNOWN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """One stage with its settings, at one place in the graph.

    `id` reads `<recipe>/<kind>/<qualifier>...`; `aliases` are the ids that other recipes or targets know it by.
    `needs` maps a slot of the stage to the step whose output fills it; `files` maps a slot to a declared input
    file, relative to the workspace.
    """

    id: str
    kind: str
    settings: Mapping[str, Json]
    needs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def id_in(self, recipe: str) -> str:
        """The id by which a recipe knows the step: its own first one, else the step's."""
        return next((id for id in (self.id, *self.aliases) if id.startswith(f"{recipe}/")), self.id)

    def ids(self) -> list[str]:
        """The step's first id in each recipe that has it."""
        first: dict[str, str] = {}
        for id in (self.id, *self.aliases):
            first.setdefault(id.partition("/")[0], id)
        return list(first.values())


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix targets x precision x format of a recipe: an artifact, or why it cannot be made here.

    `path` is the artifact's file, relative to `dist/`. `reason` is empty where the cell can be built. `step` makes the
    artifact, `verify` compares it with the source model.
    """

    recipe: str
    target: str
    precision: str
    format: str
    path: str
    step: str = ""
    reason: str = ""
    hint: str = ""
    verify: str = ""

    @property
    def name(self) -> str:
        return f"{self.recipe}/{self.target}/{self.precision}/{self.format}"


@dataclass(frozen=True)
class Plan:
    """Steps in an order in which each comes after what it needs, and the cells they lead to."""

    steps: tuple[Step, ...]
    cells: tuple[Cell, ...]

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where each step stands, by id and alias."""
        return {id: place for place, step in enumerate(self.steps) for id in (*step.aliases, step.id)}

    def step(self, id: str) -> Step:
        """The step of an id or alias; KeyError where there is none."""
        return self.steps[self._places[id]]

    def only(self, cells: Iterable[Cell]) -> Plan:
        """The plan of some of its cells: their steps and what those need."""
        kept = tuple(cells)
        return Plan(self.behind({id for cell in kept for id in (cell.step, cell.verify) if id}), kept)

    def behind(self, ids: Iterable[str]) -> tuple[Step, ...]:
        """Steps and all that they need, in the plan's order."""
        found: set[int] = set()
        left = [self._places[id] for id in ids]
        while left:
            place = left.pop()
            if place not in found:
                found.add(place)
                left += [self._places[need] for need in self.steps[place].needs.values()]
        return tuple(self.steps[place] for place in sorted(found))

    def lengths(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """For each step the seconds of the longest chain that begins with it: start the longest first."""
        length = dict.fromkeys((step.id for step in self.steps), 0.0)
        for step in reversed(self.steps):
            length[step.id] += seconds.get(step.id, UNKNOWN_SECONDS)
            for need in step.needs.values():
                length[need] = max(length[need], length[step.id])
        return length

    def buildable(self) -> Iterator[Cell]:
        return (cell for cell in self.cells if not cell.reason)

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": [
                {
                    "id": s.id,
                    "kind": s.kind,
                    "settings": s.settings,
                    "needs": dict(s.needs),
                    "files": dict(s.files),
                    "aliases": list(s.aliases),
                }
                for s in self.steps
            ],
            "cells": [{name: getattr(c, name) for name in Cell.__slots__} for c in self.cells],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Plan:
        return Plan(
            steps=tuple(Step(**{**s, "aliases": tuple(s["aliases"])}) for s in data["steps"]),
            cells=tuple(Cell(**c) for c in data["cells"]),
        )
