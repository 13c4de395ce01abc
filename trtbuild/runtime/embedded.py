"""The engines inside a saved program, taken out of it: what torch then loads is a program without them.

In a Linux program of Torch-TensorRT engines are custom objects, in a Windows program texts in the graph's JSON. Either
way each call of one becomes a call of an op of ours that names it, and the engine is read by itself when it is wanted,
one at a time: it may be gigabytes, and would lie in memory several times over as text, JSON and pickle.
"""

from __future__ import annotations

import binascii
import io
import json
import mmap
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trtbuild.runtime.archive_zip import open_archive
from trtbuild.runtime.engine_fields import ENGINE, EngineFields
from trtbuild.runtime.pickles import engine_fields
from trtbuild.runtime.problems import LoadError

OP = "torch.ops.trtbuild.run_engine.default"
_PLACEHOLDER = "torch.ops.tensorrt.no_op_placeholder_for_execute_engine.default"
_EXECUTE = "torch.ops.tensorrt.execute_engine.default"

# An engine as JSON text: base64 that begins with "vtrt" or "ftrt".
_TEXT = re.compile(rb'"((?:dnRy|ZnRy)[A-Za-z0-9+/]{256,}={0,2})"')
_MODEL = re.compile(r"models/[^/]+\.json")
_CONSTANTS = re.compile(r"data/constants/[^/]+_config\.json")
_OBJECTS = "data/constants/custom_obj_"
_SAMPLES = "data/sample_inputs/"

Reader = Callable[[], EngineFields]


class Embedded:
    """A program's engines by the name under which the op calls them, and the program without them."""

    def __init__(self, program: io.BytesIO, engines: Mapping[str, Reader]) -> None:
        self.program = program
        self.engines = engines


def take_out(path: Path, device: tuple[str, int | None]) -> Embedded:
    """The program at `path` without its engines, what of it was on a GPU on this device (its type and index).

    The archive must have passed the check, or be trusted. LoadError where it holds custom objects in other places than
    Torch-TensorRT puts its engines.
    """
    with open(path, "rb") as file:
        archive, members = open_archive(file)
        with archive:
            model_name = next((name for name in members if _MODEL.fullmatch(name)), None)
            if model_name is None:
                raise LoadError("The archive holds no program", [("file", str(path))])
            offset, length = _place(file, archive.getinfo(members[model_name]))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                model, texts = _without_texts(view, offset, length)
            objects = _objects(archive, members)
            engines = _rewrite(model, texts, objects, path)
            model = _moved(model, device)
            program = io.BytesIO()
            with zipfile.ZipFile(program, "w", zipfile.ZIP_STORED) as out:
                for name, full in members.items():
                    if name.startswith((_OBJECTS, "extra/")):
                        continue
                    if name == model_name:
                        out.writestr(full, json.dumps(model))
                    elif name.startswith(_SAMPLES):
                        out.writestr(full, b"")
                    elif name.endswith("_config.json"):
                        out.writestr(full, _config(archive.read(full), device))
                    else:
                        out.writestr(full, archive.read(full))
    program.seek(0)
    return Embedded(program, engines)


def _place(file: Any, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where a stored member's bytes lie in the file."""
    file.seek(info.header_offset)
    header = file.read(30)
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return info.header_offset + 30 + names, info.file_size


def _without_texts(view: mmap.mmap, offset: int, length: int) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The graph's JSON with a short name for each engine's text, and where the texts lie in the file."""
    pieces: list[bytes] = []
    texts: dict[str, tuple[int, int]] = {}
    start = offset
    for found in _TEXT.finditer(view, offset, offset + length):
        name = f"trtbuild-text:{len(texts)}"
        texts[name] = found.span(1)
        pieces += [view[start : found.start(1)], name.encode()]
        start = found.end(1)
    pieces.append(view[start : offset + length])
    return json.loads(b"".join(pieces)), texts


def _objects(archive: zipfile.ZipFile, members: Mapping[str, str]) -> dict[str, str]:
    """Member of every custom object by the program's name for it."""
    found: dict[str, str] = {}
    for name, full in members.items():
        if _CONSTANTS.fullmatch(name):
            for key, entry in json.loads(archive.read(full))["config"].items():
                member = f"data/constants/{entry['path_name']}"
                if member.startswith(_OBJECTS):
                    found[key] = members[member]
    return found


def _rewrite(
    model: Any, texts: Mapping[str, tuple[int, int]], objects: Mapping[str, str], path: Path
) -> dict[str, Reader]:
    """Make every call of an engine one of our op; how to read each engine, by the name in its call."""
    graph = model["graph_module"]["graph"]
    signature = model["graph_module"]["signature"]
    arguments = {
        spec["custom_obj"]["arg"]["name"]: spec["custom_obj"]["custom_obj_name"]
        for spec in signature["input_specs"]
        if "custom_obj" in spec
    }
    engines: dict[str, Reader] = {}
    for node in graph["nodes"]:
        inputs = [item["arg"] for item in node["inputs"]]
        name = f"engine_{len(engines)}"
        if node["target"] == _PLACEHOLDER:
            fields = [str(argument.get("as_string", "")) for argument in inputs[1:]]
            engines[name] = partial(_from_text, path, fields, texts.get(fields[ENGINE]))
        elif node["target"] == _EXECUTE:
            member = objects.get(arguments.get((inputs[1].get("as_custom_obj") or {}).get("name"), ""))
            if member is None:
                raise _unknown(path)
            engines[name] = partial(_from_object, path, member)
        else:
            continue
        node["target"] = OP
        node["inputs"] = [
            {"name": "inputs", "arg": inputs[0], "kind": node["inputs"][0].get("kind", 1)},
            {"name": "name", "arg": {"as_string": name}, "kind": node["inputs"][0].get("kind", 1)},
        ]
    if "as_custom_obj" in json.dumps(graph["nodes"]):
        raise _unknown(path)
    graph["inputs"] = [item for item in graph["inputs"] if "as_custom_obj" not in item]
    graph["custom_obj_values"] = {}
    signature["input_specs"] = [spec for spec in signature["input_specs"] if "custom_obj" not in spec]
    return engines


def _unknown(path: Path) -> LoadError:
    return LoadError(
        "The program calls its engines in a way that this loader does not know",
        [("file", str(path))],
        "With Torch-TensorRT installed, `trusted=True` has torch load it as it is.",
    )


def _from_text(path: Path, fields: list[str], place: tuple[int, int] | None) -> EngineFields:
    if place is None:
        return EngineFields.of(fields)
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        memoryview(view) as whole,
        whole[place[0] : place[1]] as text,
    ):
        try:
            engine = binascii.a2b_base64(text)
        except binascii.Error as error:
            raise LoadError("An engine of the program is damaged", [("file", str(path))]) from error
    return EngineFields.of(fields, engine)


def _from_object(path: Path, member: str) -> EngineFields:
    with zipfile.ZipFile(path) as archive:
        data = archive.read(member)
    return EngineFields.of(engine_fields(data, member))


def _config(data: bytes, device: tuple[str, int | None]) -> bytes:
    config = json.loads(data)
    config["config"] = {
        key: entry for key, entry in config["config"].items() if not str(entry["path_name"]).startswith("custom_obj_")
    }
    return json.dumps(_moved(config, device)).encode()


def _moved(value: Any, device: tuple[str, int | None]) -> Any:
    """JSON with every GPU in it replaced by one device."""
    if isinstance(value, dict):
        if value.get("type") == "cuda" and set(value) == {"type", "index"}:
            return {"type": device[0], "index": device[1]}
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    return value
