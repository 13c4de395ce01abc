"""Which engine of a compiled program computes a value, or whether PyTorch does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtbuild.digests.archive import Archive
from trtbuild.verification.rebuild import Made

_ENGINE = "no_op_placeholder_for_execute_engine"


def holders_of(made: Made, names: Sequence[str]) -> dict[str, str]:
    """The part that computes each of the values that a rebuilt artifact gives after its own outputs."""
    compiled = made.outputs.get("compile", {})
    if program := compiled.get("program.pt2"):
        return _of_program(program, names)
    engines = [name for name in compiled if name.endswith(".engine")]
    return dict.fromkeys(names, f"the engine {Path(engines[0]).stem}") if len(engines) == 1 else {}


def _of_program(path: Path, names: Sequence[str]) -> dict[str, str]:
    with Archive(path) as archive:
        graph = json.loads(bytes(archive["models/model.json"]))["graph_module"]["graph"]
    makers = {name: _holder(node) for node in graph["nodes"] for output in node["outputs"] for name in _names(output)}
    outputs = [name for output in graph["outputs"] for name in _names(output)]
    return {
        name: makers[made]
        for name, made in zip(names, outputs[len(outputs) - len(names) :], strict=True)
        if made in makers
    }


def _holder(node: Mapping[str, Any]) -> str:
    if _ENGINE not in node["target"]:
        return "PyTorch"
    name = next((item["arg"]["as_string"] for item in node["inputs"] if item["name"] == "name"), "")
    return f"the engine {name.removesuffix('_engine')}".rstrip()


def _names(argument: Mapping[str, Any]) -> list[str]:
    if "as_tensor" in argument:
        return [argument["as_tensor"]["name"]]
    return [item["name"] for item in argument.get("as_tensors", [])]
