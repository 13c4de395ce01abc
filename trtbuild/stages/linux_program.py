"""A program for Linux that plain `torch.export.load` reads beside Torch-TensorRT, written without a GPU.

Torch-TensorRT's own format: an op `tensorrt::execute_engine` in each place of an engine, the engine a constant of the
program (see `engine_object`). Writing it with Torch-TensorRT means to load every engine, and so takes the GPU that the
engines are for; here the portable program's archive is rewritten.
Source: inline_trt_modules and lift in dynamo/_exporter.py of Torch-TensorRT; torch/export/pt2_archive/_package.py.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trtbuild.digests.archive import Archive, rewrite
from trtbuild.stages.engine_object import engine_object
from trtbuild.stages.portable import (
    CONSTANTS,
    EXAMPLES,
    MODEL,
    WEIGHTS,
    engine_places,
    extra_members,
    fields_of,
    moved,
    on_gpu,
    without_source_lines,
)

_EXECUTE = "torch.ops.tensorrt.execute_engine.default"

# How many fields Torch-TensorRT's runtime wants, by the version of its layout. The placeholder of 2.11 has no argument
# for the last one, resource_allocation_strategy.
_FIELDS = {"8": 11}


def write_linux_program(program: Path, engines: Mapping[str, Path], extra: Mapping[str, Path], target: Path) -> None:
    """Put the engines into a portable program and address it to the first GPU; `extra` are files of the user's own."""
    fields: dict[str, list[str]] = {}

    def constants(data: bytes) -> bytes:
        config = moved(json.loads(data))
        for index, name in enumerate(fields):
            config["config"][_object(name)] = {
                "path_name": f"custom_obj_{index}",
                "is_param": False,
                "use_pickle": True,
                "tensor_meta": None,
            }
        return json.dumps(config).encode()

    def objects() -> Iterator[tuple[str, bytes]]:
        for index, (name, found) in enumerate(fields.items()):
            texts = [text.encode() for text in found]
            texts[3] = base64.b64encode(engines[name].read_bytes())
            yield f"data/constants/custom_obj_{index}", engine_object(texts)

    replaced = _with_engines(program, engines, fields)
    added: dict[str, Iterable[tuple[str, bytes]]] = {**extra_members(extra), CONSTANTS: objects()}
    rewrite(program, target, {MODEL: replaced, WEIGHTS: on_gpu, CONSTANTS: constants}, added)


def write_torch_program(program: Path, device: str, extra: Mapping[str, Path], target: Path) -> None:
    """A traced program addressed to a device, "cuda" or "cpu"; nothing of it runs in TensorRT.

    The example inputs it was traced with are left out: they lie on the CPU, and are a pickle.
    """

    def model(data: bytes) -> bytes:
        found = without_source_lines(json.loads(data))
        return json.dumps(moved(found) if device == "cuda" else found).encode()

    replace: dict[str, Any] = {MODEL: model, EXAMPLES: b""}
    if device == "cuda":
        replace |= {WEIGHTS: on_gpu, CONSTANTS: on_gpu}
    rewrite(program, target, replace, extra_members(extra))


def _with_engines(program: Path, engines: Mapping[str, Path], fields: dict[str, list[str]]) -> bytes:
    """The program's graph with its engines as constants; notes the fields of each, in the order of the graph."""
    with Archive(program) as archive:
        model = without_source_lines(moved(json.loads(bytes(archive[MODEL]))))
    graph, signature = model["graph_module"]["graph"], model["graph_module"]["signature"]
    first = next(place for place, spec in enumerate(signature["input_specs"]) if "user_input" in spec)
    for count, (name, node) in enumerate(engine_places(model, engines).items()):
        fields[name] = _all_fields(list(fields_of(node).values()))
        argument = {"name": _object(name), "class_fqn": ""}
        graph["inputs"].insert(first + count, {"as_custom_obj": dict(argument)})
        graph["custom_obj_values"][_object(name)] = dict(argument)
        signature["input_specs"].insert(
            first + count, {"custom_obj": {"arg": dict(argument), "custom_obj_name": _object(name)}}
        )
        tensors = next(item["arg"] for item in node["inputs"] if item["name"] == "inputs")
        node["target"] = _EXECUTE
        node["inputs"] = [
            {"name": "input_tensors", "arg": tensors, "kind": 1},
            {"name": "engine", "arg": {"as_custom_obj": dict(argument)}, "kind": 1},
        ]
        node["name"] = "execute_engine_default" + (f"_{count}" if count else "")
    return json.dumps(model).encode()


def _object(engine: str) -> str:
    return f"{engine}_engine"


def _all_fields(found: list[str]) -> list[str]:
    return found + ["0"] * (_FIELDS.get(found[0], len(found)) - len(found))
