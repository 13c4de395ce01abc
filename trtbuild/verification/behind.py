"""The steps behind an artifact as a manifest tells them, so that it can be made again with more outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The kind of step that fills a slot.
_FILLS = {"program": "trace", "compiled": "compile", "onnx": "onnx"}


def steps_behind(stages: Sequence[Mapping[str, Any]], format: str) -> list[dict[str, Any]]:
    """The steps from the trace to the artifact of a format, in order: {"kind", "settings", "needs": {slot: kind}}.

    `stages` are those of the artifact's manifest. Empty where they do not tell all of them.
    """
    known: dict[str, Mapping[str, Any]] = {}
    for stage in stages:
        settings = stage["key_inputs"]["settings"]
        if stage["kind"] in ("export", "cross-compile") and settings.get("format") != format:
            continue
        known[stage["kind"]] = stage["key_inputs"]
    leaf = "onnx" if format == "onnx" else next((kind for kind in ("export", "cross-compile") if kind in known), "")
    found: dict[str, dict[str, Any]] = {}
    wanted = [leaf]
    while wanted:
        kind = wanted.pop()
        if kind not in known:
            return []
        needs = {slot: _FILLS[slot] for slot in known[kind]["inputs"] if slot in _FILLS}
        # A step that several need comes before all of them.
        found.pop(kind, None)
        found[kind] = {"kind": kind, "settings": known[kind]["settings"], "needs": needs}
        wanted += needs.values()
    return list(reversed(found.values()))
