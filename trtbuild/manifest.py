"""The manifest of a folder of artifacts: what they are, what they were made from, where they run.

Made from entries alone, so that the same entries give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtbuild import __version__
from trtbuild.plans import Cell, Plan, Step
from trtbuild.proofs import Pending
from trtbuild.signature import signature_of
from trtbuild.store.entry import Entry

SCHEMA = 2


def manifest_of(
    plan: Plan,
    cells: Sequence[Cell],
    entries: Mapping[str, Entry],
    pending: Mapping[str, Pending],
    old: Mapping[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """The manifest of cells that share a folder; `pending` are the comparisons that were not made here.

    `old` is the manifest that lies there: of its files, those of formats that this run was not asked for are kept with
    what is said of them, if they come of the same stages; a manifest never tells of files what is not true of them.
    """
    first = cells[0]
    steps = plan.behind(
        id for cell in cells for id in (cell.step, cell.verify) if id == cell.step or id in entries or id in pending
    )
    compiled = next((entries[step.id] for step in steps if step.kind == "compile"), None)
    traced = next((entries[step.id] for step in steps if step.kind == "trace"), None)
    details = compiled.details if compiled else {}
    files = [
        {
            "format": cell.format,
            "path": name,
            "digest": f"sha256:{output.digest}",
            "bytes": output.bytes,
            # What belongs to an artifact beside its first file is compared with it.
            **({"verification": _verification(cell, entries, pending)} if name == Path(cell.path).name else {}),
            **{fact: entries[cell.step].details[fact] for fact in _FACTS if fact in entries[cell.step].details},
        }
        for cell in cells
        for name, output in entries[cell.step].outputs.items()
    ]
    stages = [_stage(step, first.recipe, entries.get(step.id), pending.get(step.id)) for step in steps]
    old = old if _same_stages(old, stages) else {}
    formats = {cell.format for cell in cells}
    kept = [
        file
        for file in old.get("files", ())
        if file.get("format") not in formats and (folder / str(file.get("path"))).is_file()
    ]
    if kept:
        fresh = {stage["id"] for stage in stages}
        stages += [stage for stage in old["stages"] if stage["id"] not in fresh]
    # What is known of the engines, where this run was asked for formats that need none.
    told = old if kept and compiled is None else {}
    reads = traced.record.get("reads", {}) if traced else {}
    made = [step for step in steps if step.id in entries]
    declared = {step.files[slot]: digest for step in made for slot, digest in entries[step.id].record["files"].items()}
    toolchain: dict[str, Any] = dict(old["toolchain"]) if kept else {}
    for step in made:
        toolchain |= {name: version for name, version in entries[step.id].record["toolchain"].items() if version}
    return {
        "schema": SCHEMA,
        "trtbuild": __version__,
        "recipe": first.recipe,
        "target": told.get("target") or _target(first.target, steps),
        "precision": first.precision,
        "files": sorted([*files, *kept], key=lambda file: str(file["path"])),
        **(signature_of(traced.record["settings"], traced.details["signature"]) if traced else _NO_CALL),
        "state": traced.details.get("state") if traced else None,
        "whole_engine": told.get("whole_engine") or details.get("whole"),
        "engines": told.get("engines") or details.get("engines", []),
        "realised_precision": told.get("realised_precision") or details.get("realised"),
        "partitions": told.get("partitions") or details.get("partitions", {}),
        "toolchain": dict(sorted(toolchain.items())),
        "stages": stages,
        "sources": {path: digest and f"sha256:{digest}" for path, digest in sorted({**reads, **declared}.items())},
        "verification": summed_up([*files, *kept]),
    }


# What an export tells of a file beside its digest: whether it takes the model's structure or flat tensors.
_FACTS = ("calls",)

_NO_CALL: dict[str, Any] = {"inputs": [], "outputs": [], "signature": {}}

_ORDER = ("failed", "pending", "passed")


def summed_up(files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The verification of a folder: the worst of its artifacts'."""
    found = [file["verification"] for file in files if file.get("verification")]
    worst = min(found, key=lambda one: _ORDER.index(one["status"]), default={"status": "none"})
    return {name: worst[name] for name in ("status", "reason") if name in worst}


def _verification(cell: Cell, entries: Mapping[str, Entry], pending: Mapping[str, Pending]) -> dict[str, Any]:
    if cell.verify in entries:
        return {**entries[cell.verify].details, "key": entries[cell.verify].key}
    if not cell.verify:
        return {"status": "pending", "reason": "nothing real was built"}
    found = pending.get(cell.verify)
    why = found.reason if found else "the run ended before it"
    told = {"status": "pending", "reason": f"not compared with the source model yet: {why}"}
    return {**told, "key": found.key} if found else told


def _stage(step: Step, recipe: str, entry: Entry | None, pending: Pending | None) -> dict[str, Any]:
    told: dict[str, Any] = {"id": step.id_in(recipe), "kind": step.kind}
    if entry is not None:
        return {**told, "key": entry.key, "seconds": entry.seconds, "key_inputs": entry.record}
    assert pending is not None
    return {**told, "key": pending.key, "status": "pending", "key_inputs": pending.record}


def _target(name: str, steps: Sequence[Step]) -> dict[str, Any]:
    def found(setting: str, absent: Any) -> Any:
        return next((step.settings[setting] for step in reversed(steps) if setting in step.settings), absent)

    return {
        "name": name,
        "platform": found("platform", None),
        "runtime": found("runtime", None),
        "device": found("device", "cuda"),
        "compute_capability": found("compute_capability", []),
    }


def _same_stages(old: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an older manifest of this schema tells of the same trace, and of no stage something else."""
    if old.get("schema") != SCHEMA or not all(isinstance(old.get(part), list) for part in ("files", "stages")):
        return False
    known = {stage["id"]: stage["key"] for stage in old["stages"]}
    found = {stage["id"]: stage["key"] for stage in stages}
    return bool(known.keys() & found.keys()) and all(found[id] == known[id] for id in known.keys() & found.keys())
