"""What two saved programs differ in, said of the very op, argument, tensor or range: for `explain`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from trtbuild.changes import Change, changes
from trtbuild.digests.archive import Archive
from trtbuild.digests.program import canonical_graph, describe_program

_SHOWN = 6


def program_changes(before: Path, after: Path) -> list[Change]:
    """The differences of two programs' meanings; of many changed ops the first few and their number.

    ValueError where one is no program.
    """
    old, new = _parts(before), _parts(after)
    return [*_ops(old.pop("ops"), new.pop("ops")), *changes(old, new)]


def _parts(path: Path) -> dict[str, Any]:
    with Archive(path) as archive:
        name = next(name for name in archive.names if name.startswith("models/") and name.endswith(".json"))
        graph: Any = canonical_graph(json.loads(bytes(archive[name])))
    description: Any = describe_program(path)
    model = next(iter(description["models"].values()))
    body = graph["model"]["graph_module"]["graph"]
    return {
        "ops": [_text(node) for node in body["nodes"]],
        "inputs": [_argument(argument) for argument in body["inputs"]],
        "outputs": [_argument(argument) for argument in body["outputs"]],
        "ranges": graph["ranges"],
        "weights": {name: facts["digest"] for name, facts in model["weights"]["tensors"].items()},
        "constants": {name: facts["digest"] for name, facts in model["constants"]["tensors"].items()},
    }


def _ops(old: list[str], new: list[str]) -> list[Change]:
    found: list[Change] = []
    for what, a, b, c, d in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        paired = min(b - a, d - c)
        found += [Change("op", one, other, "changed") for one, other in zip(old[a:b], new[c:d], strict=False)]
        found += [Change("op", text, None, "removed") for text in old[a + paired : b]]
        found += [Change("op", None, text, "added") for text in new[c + paired : d]]
    more = len(found) - _SHOWN
    return [*found[:_SHOWN], *([Change("op", None, f"{more} more", "added")] if more > 0 else [])]


def _text(node: Mapping[str, Any]) -> str:
    given = ", ".join(_argument(item["arg"]) for item in node["inputs"])
    made = ", ".join(_argument(output) for output in node["outputs"])
    return f"{made} = {node['target'].removeprefix('torch.ops.')}({given})"


def _argument(argument: Any) -> str:
    """An argument of a node as Python would write it, tensors by their names."""
    if isinstance(argument, Mapping) and len(argument) == 1:
        ((kind, value),) = argument.items()
        if kind == "as_none":
            return "None"
        if kind.startswith("as_") or kind == "name":
            return _argument(value)
    if isinstance(argument, list):
        return f"[{', '.join(_argument(item) for item in argument)}]"
    return argument if isinstance(argument, str) else json.dumps(argument)
