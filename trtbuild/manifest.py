"""The manifest of a folder of artifacts: what they are, what they were made from, where they run.

Made from entries alone, so that the same entries give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtbuild import __version__
from trtbuild.plans import Cell, Plan
from trtbuild.stages.inputs import tensors
from trtbuild.store.entry import Entry

SCHEMA = 1

PENDING = {
    "status": "pending",
    "reason": "not compared with the source model yet: that needs a GPU",
}


def manifest_of(
    plan: Plan, cells: Sequence[Cell], entries: Mapping[str, Entry], old: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """The manifest of cells that share a folder.

    `old` is the manifest that lies there: of its files, those of formats that this run was not asked for are kept with
    what is said of them, if they come of the same stages; a manifest never tells of files what is not true of them.
    """
    first = cells[0]
    steps = plan.behind(cell.step for cell in cells)
    compiled = next((entries[step.id] for step in steps if step.kind == "compile"), None)
    traced = next((entries[step.id] for step in steps if step.kind == "trace"), None)
    settings = next((step.settings for step in steps if step.kind == "compile"), {})
    details = compiled.details if compiled else {}
    files = [
        {"format": cell.format, "path": name, "digest": f"sha256:{output.digest}", "bytes": output.bytes}
        for cell in cells
        for name, output in entries[cell.step].outputs.items()
    ]
    stages = [
        {
            "id": step.id_in(first.recipe),
            "kind": step.kind,
            "key": entries[step.id].key,
            "seconds": entries[step.id].seconds,
            "key_inputs": entries[step.id].record,
        }
        for step in steps
    ]
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
    inputs, outputs = _signature(traced)
    reads = traced.record.get("reads", {}) if traced else {}
    declared = {step.files[slot]: digest for step in steps for slot, digest in entries[step.id].record["files"].items()}
    toolchain: dict[str, Any] = dict(old["toolchain"]) if kept else {}
    for step in steps:
        toolchain |= {name: version for name, version in entries[step.id].record["toolchain"].items() if version}
    return {
        "schema": SCHEMA,
        "trtbuild": __version__,
        "recipe": first.recipe,
        "target": told.get("target")
        or {
            "name": first.target,
            "platform": next((s.settings["platform"] for s in steps if "platform" in s.settings), None),
            "runtime": settings.get("runtime"),
            "compute_capability": settings.get("compute_capability", []),
        },
        "precision": first.precision,
        "files": sorted([*files, *kept], key=lambda file: str(file["path"])),
        "inputs": inputs,
        "outputs": outputs,
        "whole_engine": told.get("whole_engine") or details.get("whole"),
        "engines": told.get("engines") or details.get("engines", []),
        "partitions": told.get("partitions") or details.get("partitions", {}),
        "toolchain": dict(sorted(toolchain.items())),
        "stages": stages,
        "sources": {path: digest and f"sha256:{digest}" for path, digest in sorted({**reads, **declared}.items())},
        "verification": PENDING,
    }


def _same_stages(old: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an older manifest of this schema tells of the same trace, and of no stage something else."""
    if old.get("schema") != SCHEMA or not all(isinstance(old.get(part), list) for part in ("files", "stages")):
        return False
    known = {stage["id"]: stage["key"] for stage in old["stages"]}
    found = {stage["id"]: stage["key"] for stage in stages}
    return bool(known.keys() & found.keys()) and all(found[id] == known[id] for id in known.keys() & found.keys())


def _signature(traced: Entry | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The program's inputs and outputs with the recipe's names for sizes, and the range of each input's."""
    if traced is None:
        return [], []
    settings, signature = traced.record["settings"], traced.details["signature"]
    specs = [spec for group in settings["inputs"] for spec in tensors(group)]
    names: dict[str, str] = {}
    inputs = []
    for found, spec in zip(signature["inputs"], specs, strict=True):
        for symbol, size in zip(found["shape"], spec["shape"], strict=True):
            if isinstance(symbol, str) and isinstance(size, str):
                names[symbol] = size
        ranges = {size: settings["dims"][size] for size in spec["shape"] if isinstance(size, str)}
        inputs.append({**found, "shape": list(spec["shape"]), "ranges": ranges, "format": spec["format"]})
    outputs = [{**found, "shape": [_renamed(size, names) for size in found["shape"]]} for found in signature["outputs"]]
    return inputs, outputs


def _renamed(size: int | str, names: Mapping[str, str]) -> int | str:
    """A size over shape symbols as one over the recipe's dims."""
    return re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), size) if isinstance(size, str) else size
