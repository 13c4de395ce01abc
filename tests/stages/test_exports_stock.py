"""Programs written without a GPU against one that Torch-TensorRT wrote on one.

`stock_program.pt2.xz`: torch_tensorrt.save(retrace=False) of Torch-TensorRT 2.11 on an H200: two engines with an op in
PyTorch between them, a dynamic batch, a dict of outputs. Here it is taken apart into what a portable program and its
engines are, and written again.
"""

from __future__ import annotations

import base64
import io
import json
import lzma
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import pytest

from trtbuild.digests.archive import Archive, write_archive
from trtbuild.errors import StageError
from trtbuild.stages.engine_object import engine_object
from trtbuild.stages.linux_program import write_linux_program
from trtbuild.stages.placeholders import reference

PLACEHOLDER = "torch.ops.tensorrt.no_op_placeholder_for_execute_engine.default"
# The arguments of 2.11's placeholder: the fields of an engine but the last.
FIELDS = (
    "abi_version",
    "name",
    "serialized_device_info",
    "serialized_engine",
    "serialized_in_binding_names",
    "serialized_out_binding_names",
    "serialized_hardware_compatible",
    "serialized_metadata",
    "serialized_target_platform",
    "serialized_require_output_allocator",
)


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    path = tmp_path / "stock.pt2"
    path.write_bytes(lzma.decompress((Path(__file__).parent / "stock_program.pt2.xz").read_bytes()))
    return path


def members(path: Path) -> dict[str, bytes]:
    with Archive(path) as archive:
        return {name: bytes(archive[name]) for name in archive.names}


def fields_of(custom_object: bytes) -> list[bytes]:
    """The texts in an engine object, in order, read with Python's own pickle tools."""
    with zipfile.ZipFile(io.BytesIO(custom_object)) as archive:
        steps = list(pickletools.genops(archive.read("archive/data.pkl")))
    names = [step[0].name for step in steps]
    remembered: dict[Any, str] = {}
    found: list[str] = []
    for step, argument, _ in steps[names.index("EMPTY_LIST") : names.index("APPENDS")]:
        if step.name == "BINUNICODE":
            found.append(argument)
        elif step.name == "BINPUT":
            remembered[argument] = found[-1] if found else ""
        elif step.name == "BINGET":
            found.append(remembered[argument])
    return [text.encode() for text in found]


def portable(stock: Path, folder: Path) -> tuple[Path, dict[str, Path]]:
    """The portable program and the engines that a stock program would have been made from."""
    held = members(stock)
    model = json.loads(held["models/model.json"])
    graph, signature = model["graph_module"]["graph"], model["graph_module"]["signature"]
    config = json.loads(held["data/constants/model_constants_config.json"])["config"]
    engines = {}
    for node in graph["nodes"]:
        if not node["target"].endswith("execute_engine.default"):
            continue
        named = graph["custom_obj_values"][node["inputs"][1]["arg"]["as_custom_obj"]["name"]]["name"]
        fields = fields_of(held[f"data/constants/{config[named]['path_name']}"])
        name = named.removesuffix("_engine")
        engines[name] = folder / f"{name}.engine"
        engines[name].write_bytes(base64.b64decode(fields[3]))
        texts = [text.decode() for text in fields[: len(FIELDS)]]
        texts[3] = reference(name)
        node["target"] = PLACEHOLDER
        node["inputs"] = [
            {"name": "inputs", "arg": node["inputs"][0]["arg"], "kind": 1},
            *({"name": n, "arg": {"as_string": t}, "kind": 1} for n, t in zip(FIELDS, texts, strict=True)),
        ]
    graph["inputs"] = [value for value in graph["inputs"] if "as_custom_obj" not in value]
    graph["custom_obj_values"] = {}
    signature["input_specs"] = [spec for spec in signature["input_specs"] if "custom_obj" not in spec]
    text = json.dumps(model).replace('{"type": "cuda", "index": 0}', '{"type": "cpu", "index": null}')
    held["models/model.json"] = text.encode()
    held["data/constants/model_constants_config.json"] = b'{"config": {}}'
    path = folder / "portable.pt2"
    with path.open("wb") as file:
        write_archive(file, ((f"program/{name}", data) for name, data in held.items() if "custom_obj" not in name))
    return path, engines


def test_an_engine_object_has_the_bytes_that_torch_gives_it(stock: Path) -> None:
    objects = [data for name, data in members(stock).items() if "/custom_obj_" in name]
    assert len(objects) == 2
    for data in objects:
        assert engine_object(fields_of(data)) == data


def test_texts_that_come_again_and_long_memos_are_pickled_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    texts = [f"text {n % 300}" for n in range(700)]
    for some in (texts[:3], texts):
        with zipfile.ZipFile(io.BytesIO(torch._C._pickle_save(some))) as archive:
            expected = archive.read("archive/data.pkl")
        with zipfile.ZipFile(io.BytesIO(engine_object([text.encode() for text in some]))) as archive:
            found = archive.read("archive/data.pkl")
        # The object is around the list: one more is remembered before every text.
        listed = [step[1] for step in pickletools.genops(expected) if step[0].name == "BINUNICODE"]
        assert [step[1] for step in pickletools.genops(found) if step[0].name == "BINUNICODE"] == listed
        gets = [step[1] for step in pickletools.genops(expected) if step[0].name in ("BINGET", "LONG_BINGET")]
        assert [step[1] for step in pickletools.genops(found) if step[0].name in ("BINGET", "LONG_BINGET")] == [
            index + 1 for index in gets
        ]


def test_a_program_is_written_as_torch_tensorrt_writes_it(stock: Path, tmp_path: Path) -> None:
    program, engines = portable(stock, tmp_path)
    labels = tmp_path / "labels"
    labels.write_text("cat\ndog")
    target = tmp_path / "model.pt2"
    write_linux_program(program, engines, {"labels.txt": labels}, target)
    written, expected = members(target), members(stock)
    names = list(written)
    assert names.pop(names.index("archive_format") - 1) == "extra/labels.txt"
    assert written.pop("extra/labels.txt") == b"cat\ndog"
    assert names == list(expected)
    for name, data in expected.items():
        if name != "models/model.json":
            assert written[name] == data, name
    found, wanted = json.loads(written["models/model.json"]), json.loads(expected["models/model.json"])
    for node in wanted["graph_module"]["graph"]["nodes"]:
        # A line of the model's source, with its folder.
        node["metadata"].pop("stack_trace", None)
    text = json.dumps(wanted)
    for name in engines:
        text = text.replace(f'"{name}_engine_1"', f'"{name}_engine"')
    assert found == json.loads(text)


def test_engines_and_places_are_one_for_one(stock: Path, tmp_path: Path) -> None:
    program, engines = portable(stock, tmp_path)
    engines.pop("_run_on_acc_2")
    with pytest.raises(StageError, match="does not hold its engines"):
        write_linux_program(program, engines, {}, tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()
