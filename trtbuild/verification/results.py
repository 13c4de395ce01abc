"""The comparisons of all cases, output by output: the verification record, and a failure in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trtbuild.errors import StageError
from trtbuild.verification.cases import Case
from trtbuild.verification.compare import Comparison

_SHOWN = 12


class Differs(StageError):
    """An artifact is not what its source model is, in a way that no tolerance measures."""


@dataclass(slots=True)
class Output:
    """What was found of one output over all cases; `at` is the case where it is furthest off."""

    name: str
    worst: Comparison | None = None
    at: Case | None = None
    every: list[Comparison] = field(default_factory=list)

    def add(self, case: Case, comparison: Comparison) -> None:
        self.every.append(comparison)
        if self.worst is None or _badness(comparison) > _badness(self.worst):
            self.worst, self.at = comparison, case

    @property
    def passed(self) -> bool:
        return bool(self.every) and all(found.passed for found in self.every)

    def record(self) -> dict[str, Any]:
        """The worst over all cases of each figure. rtol, atol and at are those of the worst case."""
        assert self.worst is not None and self.at is not None
        return {
            "name": self.name,
            "passed": self.passed,
            "max_abs": _most([found.max_abs for found in self.every]),
            "max_rel": _most([found.max_rel for found in self.every]),
            "mean_abs": _most([found.mean_abs for found in self.every]),
            "cosine": min((found.cosine for found in self.every if found.cosine is not None), default=None),
            "mismatched": max(found.mismatched for found in self.every),
            "nan": max(found.nan for found in self.every),
            "inf": max(found.inf for found in self.every),
            "reference_nan": max(found.reference_nan for found in self.every),
            "reference_rms": max(found.scale for found in self.every),
            "rtol": self.worst.rtol,
            "atol": self.worst.atol,
            "of_tolerance": finite(self.worst.of_tolerance),
            "at": {**self.at.at, "seed": self.at.seed},
        }


def finite(value: float) -> float | None:
    """A number as JSON can hold it, which has no infinity; NaN and Inf have their own counts."""
    return value if math.isfinite(value) else None


def _badness(found: Comparison) -> tuple[bool, float, float]:
    return not found.passed, found.of_tolerance, found.mismatched


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def failure(record: Mapping[str, Any]) -> StageError:
    """A failed verification as an error: what is off, by how much, where."""
    from trtbuild.views.text import aligned
    from trtbuild.views.verification import output_rows

    bad = sorted((found for found in record["outputs"] if not found["passed"]), key=_order)
    rows = aligned(output_rows(bad[:_SHOWN]), indent="")
    more = [f"... and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
    facts = [("outputs", "\n".join([*rows, *more]))]
    if good := len(record["outputs"]) - len(bad):
        facts.append(("within tolerance", f"{good} of {len(record['outputs'])}"))
    facts += [("compared with", f"the source model in {record['reference']}, {record['cases']} cases")]
    if located := record.get("located"):
        from trtbuild.views.verification import located_text

        facts.append(("first off", located_text(located)))
    sentence = f"The output `{bad[0]['name']}` is not what the source model gives"
    if len(bad) > 1:
        sentence = f"{len(bad)} of {len(record['outputs'])} outputs are not what the source model gives"
    return StageError(sentence, facts, _hint(bad, bool(located)))


def _order(found: Mapping[str, Any]) -> tuple[bool, float]:
    of_tolerance = found["of_tolerance"]
    return of_tolerance is not None, -(of_tolerance or 0.0)


def _hint(bad: Sequence[Mapping[str, Any]], located: bool) -> str:
    lines = []
    if any(found["reference_nan"] for found in bad):
        lines.append(
            "The source model itself gives NaN, so nothing is shown: look at the inputs' `range` and its weights."
        )
    elif any(found["nan"] or found["inf"] for found in bad):
        lines.append("NaN and Inf never pass. Half precision ends at 65504: bf16 and fp32 reach further.")
    if not located:
        lines.append("`trtbuild verify --locate` finds the first layer that is off.")
    lines.append("Tolerances are set in [verify], for one output in [verify.outputs.NAME].")
    return "\n".join(lines)
