"""The results as text and as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.null_build.cells import NULL, SCENARIOS, Cell
from tests.bench.null_build.goals import Goal
from tests.bench.null_build.systems import STAGES

_HEAD = f"{'system':<16} {'null':>10} {'x':>6} {'touched':>10} {'x':>6} {'changed':>10} {'x':>6} {'MiB':>6}"
_NOTE = 70


def render(size: int, cells: Sequence[Cell]) -> str:
    """The table of one size; x is the ratio to trtbuild in the same column."""
    own = next(cell for cell in cells if cell.system.name == "trtbuild")
    lines = [f"{size} recipes, {STAGES * size} stages; medians in ms", _HEAD]
    for cell in cells:
        parts = [f"{cell.system.name:<16}"]
        for scenario in SCENARIOS:
            found, ours = cell.median(scenario), own.median(scenario)
            parts.append(f"{found.seconds * 1e3:>10.1f}" if found else f"{'-':>10}")
            parts.append(f"{found.seconds / ours.seconds:>6.2f}" if found and ours else f"{'-':>6}")
        null = cell.median(NULL)
        parts.append(f"{null.mebibytes:>6.1f}" if null else f"{'-':>6}")
        parts.append(f" {cell.note.splitlines()[0][:_NOTE]}" if cell.note else "")
        lines.append(" ".join(parts).rstrip())
    return "\n".join(lines)


def render_goals(goals: Iterable[Goal]) -> str:
    """Each goal with what was found."""
    lines = []
    for goal in goals:
        verdict = "met" if goal.met else "MISSED"
        lines.append(f"{verdict:<7} {goal.what:<58} {goal.found:>8.2f} {goal.unit:<3} (at most {goal.most:g})")
    return "\n".join(lines)


def as_data(cells: Iterable[Cell], goals: Iterable[Goal]) -> dict[str, Any]:
    """All samples, their medians, the goals."""
    return {
        "cells": [
            {
                "system": cell.system.name,
                "recipes": cell.size,
                "note": cell.note,
                **{
                    scenario: {
                        "median": _rounded(median),
                        "seconds": [round(sample.seconds, 5) for sample in cell.samples[scenario]],
                    }
                    for scenario in SCENARIOS
                    if (median := cell.median(scenario)) is not None
                },
            }
            for cell in cells
        ],
        "goals": [{**asdict(goal), "found": round(goal.found, 3), "met": goal.met} for goal in goals],
    }


def _rounded(sample: Any) -> dict[str, float]:
    return {name: round(value, 5) for name, value in asdict(sample).items()}
