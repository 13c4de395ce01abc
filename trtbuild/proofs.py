"""Verifications that were made elsewhere, and which of them this machine cannot make.

What proves an artifact is a comparison of the same artifact with the same source model under the same settings: the
key of its `verify` step. A manifest in dist/ that holds one of this key, brought from a GPU machine by
`trtbuild verify`, counts as if the step had run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.files import read_json
from trtbuild.plans import Plan, Step


@dataclass(frozen=True, slots=True)
class Pending:
    """A verification that this machine cannot make: its key, the record of it, and why not."""

    key: str
    record: Mapping[str, Any]
    reason: str


class Proofs:
    """What the manifests of a plan's artifacts tell of their verification. `other_gpu`: see `verification.here`."""

    def __init__(self, plan: Plan, dist: Path, *, other_gpu: bool = False) -> None:
        self.other_gpu = other_gpu
        self._artifacts: dict[str, list[Path]] = {}
        for cell in plan.buildable():
            if cell.verify:
                self._artifacts.setdefault(cell.verify, []).append(dist / cell.path)

    def recorded(self, step: Step, key: str) -> dict[str, Any] | None:
        """The record of a comparison of this key in a manifest; None where there is none."""
        for artifact in self._artifacts.get(step.id, ()):
            manifest = read_json(artifact.parent / "manifest.json")
            for file in _files(manifest):
                found = file.get("verification")
                if (
                    isinstance(found, dict)
                    and found.get("key") == key
                    and found.get("status") in ("passed", "failed")
                    and file.get("path") == artifact.name
                ):
                    return {name: value for name, value in found.items() if name != "key"}
        return None

    def why_not_here(self, step: Step) -> str:
        """Why this machine cannot run a `verify` step; empty where it can."""
        from trtbuild.verification.here import why_not_here

        return why_not_here(step.settings, other_gpu=self.other_gpu)


def _files(manifest: Any) -> list[dict[str, Any]]:
    files = manifest.get("files") if isinstance(manifest, dict) else None
    return [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []


def known_wrong(step: Step, record: Mapping[str, Any]) -> StageError:
    """The error of an artifact that another machine found to be wrong."""
    on = record.get("on") or {}
    outputs = [f"{one.get('name')}: largest error {one.get('max_abs')}" for one in record.get("outputs", ())]
    return StageError(
        "The artifact was compared with the source model on another machine, and is wrong",
        [
            ("stage", step.id),
            ("compared on", str(on.get("device", "unknown"))),
            ("date", str(record.get("date", ""))),
            *([("reason", str(record["reason"]))] if record.get("reason") else []),
            *([("outputs", "\n".join(outputs))] if outputs else []),
        ],
        "The manifest beside it has the whole comparison; `trtbuild inspect` shows it.",
    )
