"""The portable compiled program made into a program for a platform, as a rewriting of its archive, without torch.

What all platforms share: where the engines go, and that tensors and factory ops, which name the CPU of the machine
that traced the model, belong on the GPU where the program will run. Source lines that tracing noted name folders of the
machine that built the program; they are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.stages.placeholders import reference

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
EXAMPLES = "data/sample_inputs/model.pt"

# torch writes files of the user's own ahead of this member.
_AFTER_EXTRAS = "archive_format"

_PLACEHOLDER = "torch.ops.tensorrt.no_op_placeholder_for_execute_engine.default"

Node = dict[str, Any]


def engine_places(model: Mapping[str, Any], engines: Mapping[str, Path]) -> dict[str, Node]:
    """The node that holds each engine's place, by the engine's name. StageError where they are not one for one."""
    nodes = [node for node in model["graph_module"]["graph"]["nodes"] if node["target"] == _PLACEHOLDER]
    names = {reference(name): name for name in engines}
    places = {names[text]: node for node in nodes if (text := fields_of(node)["serialized_engine"]) in names}
    if not len(places) == len(nodes) == len(engines):
        raise StageError(
            "The compiled program does not hold its engines",
            [("engines", ", ".join(engines)), ("places", str(len(nodes)))],
        )
    return places


def fields_of(node: Node) -> dict[str, str]:
    """The fields of an engine by name, in order, as the node in its place holds them."""
    return {item["name"]: item["arg"]["as_string"] for item in node["inputs"] if "as_string" in item["arg"]}


def on_gpu(data: bytes) -> bytes:
    """A member that is JSON, with every device that is the CPU replaced by the first GPU."""
    return json.dumps(moved(json.loads(data))).encode()


def moved(value: Any) -> Any:
    """A JSON value with every device that is the CPU replaced by the first GPU."""
    if isinstance(value, dict):
        if value.get("type") == "cpu" and set(value) == {"type", "index"}:
            return {"type": "cuda", "index": 0}
        return {key: moved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [moved(item) for item in value]
    return value


def without_source_lines(value: Any) -> Any:
    """A JSON value in which no op says any more which line of the model's source it comes from."""
    if isinstance(value, dict):
        return {key: without_source_lines(item) for key, item in value.items() if key != "stack_trace"}
    if isinstance(value, list):
        return [without_source_lines(item) for item in value]
    return value


def extra_texts(files: Mapping[str, Path]) -> dict[str, str]:
    """The user's own files by name. StageError where one is no text, which torch could not hand back."""
    found = {}
    for name, path in files.items():
        try:
            found[name] = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise StageError(
                f"The extra file `{name}` is no text, and torch.export.load reads no other",
                [("file", str(path)), ("reason", str(error))],
                "Give it as text, base64 for example.",
            ) from error
    return found


def extra_members(files: Mapping[str, Path]) -> dict[str, Iterable[tuple[str, bytes]]]:
    """The user's own files by name, as members that torch.export.load hands back as `extra_files`."""
    texts = extra_texts(files)
    return {_AFTER_EXTRAS: [(f"extra/{name}", text.encode()) for name, text in texts.items()]}
