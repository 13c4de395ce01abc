"""Programs with engines inside, as trtbuild and Torch-TensorRT write them, run by TensorRT's Python runtime alone."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.nets import Hybrid
from tests.project import Project
from tests.runtime import fake_tensorrt as fake
from tests.runtime.fake_tensorrt import Network, Stream, Tensor, default_stream
from tests.runtime.samples import edit_manifest
from trtbuild.runtime import LoadError, load, machine
from trtbuild.runtime.archive_check import check_archive
from trtbuild.runtime.embedded import take_out
from trtbuild.runtime.engine_fields import DEVICE, ENGINE, METADATA, NAME, PLATFORM, EngineFields

__all__ = ["default_stream"]

RECIPE = """\
[model]
entry = "models/nets.py:Hybrid"
{model}
[dims.batch]
min = 1
opt = 4
max = 8

[inputs.x]
shape = ["batch", 3, 16, 16]

[compile]
min_block_size = 1
{compile}
[targets.windows]
platform = "windows-x86_64"
compute_capability = ["8.9"]
precision = ["fp32"]
formats = ["exported_program"]

[targets.linux]
platform = "linux-x86_64"
compute_capability = ["8.9"]
precision = ["fp32"]
formats = ["exported_program"]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real programs for Windows and Linux, built without a GPU."""
    project = Project(tmp_path_factory.mktemp("built") / "net", RECIPE)
    done = project.run()
    assert done.code == 0, done.err
    return project.root / "dist/net"


@pytest.fixture
def machine_without(default_stream: Stream, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the stand-in for TensorRT, and without Torch-TensorRT."""
    monkeypatch.setattr(machine, "cuda_device", lambda asked: torch.device("cpu"))
    monkeypatch.setattr("trtbuild.runtime.partition.torch_tensorrt_installed", lambda runtime: False)
    manifest = json.loads((built / "windows/fp32/manifest.json").read_text())
    monkeypatch.setattr(sys.modules["tensorrt_rtx"], "__version__", manifest["toolchain"]["tensorrt-rtx"])


def copied(built: Path, target: str, folder: Path) -> Path:
    shutil.copytree(built / target / "fp32", folder, dirs_exist_ok=True)
    return folder / "model.pt2"


@pytest.fixture
def program(built: Path, tmp_path: Path, machine_without: None) -> Path:
    """A copy of the Windows program."""
    return copied(built, "windows", tmp_path)


def fields_of(path: Path) -> list[EngineFields]:
    return [read() for read in take_out(path, ("cpu", None)).engines.values()]


def compute_engines(path: Path, model: Hybrid) -> None:
    """Give the program's real engines, whose bytes only TensorRT reads, functions that do what they do."""
    engines = fields_of(path)
    assert [fields.name for fields in engines] == ["_run_on_acc_0_engine", "_run_on_acc_2_engine"]
    described = json.loads((path.parent / "manifest.json").read_text())["engines"]

    def tensors(engine: Any, part: str) -> list[Tensor]:
        ranges = engine["ranges"][0] if part == "inputs" else {}
        return [
            Tensor(t["name"], tuple(t["shape"]), shapes=[tuple(map(tuple, ranges[t["name"]]))] if ranges else [])
            for t in engine[part]
        ]

    def first(x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.relu(model.before(x)) * model.scale]

    def second(y: torch.Tensor) -> list[torch.Tensor]:
        return [model.after(torch.relu(y).mean((2, 3)))]

    shapes = (lambda x: ((x[0], 8, 14, 14),), lambda y: ((y[0], 4),))
    for fields, engine, compute, infer in zip(engines, described, (first, second), shapes, strict=True):
        network = Network(tensors(engine, "inputs"), tensors(engine, "outputs"), compute, infer)
        fake.register(fields.engine, network)


def source() -> Hybrid:
    torch.manual_seed(0)
    return Hybrid().eval()


@torch.no_grad()
def check_numbers(loaded: Any, model: Hybrid) -> None:
    for batch in (1, 3, 8):
        x = torch.randn(batch, 3, 16, 16)
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-5)


def test_a_windows_program_runs_for_verification(program: Path) -> None:
    model = source()
    compute_engines(program, model)
    with pytest.raises(LoadError, match="for another platform"):
        load(program, other_gpu=True)
    loaded = load(program, other_gpu=True, for_verification=True)
    check_numbers(loaded, model)
    assert list(loaded.engines) == ["_run_on_acc_0_engine", "_run_on_acc_2_engine"]


def test_a_linux_program_built_without_a_gpu_runs(built: Path, tmp_path: Path, machine_without: None) -> None:
    path, model = copied(built, "linux", tmp_path), source()
    check_archive(path)
    compute_engines(path, model)
    check_numbers(load(path, other_gpu=True), model)


def as_stock(windows: Path, target: Path, traced_again: bool) -> Path:
    """The program in the form that torch_tensorrt.save gives it on Linux: engines as custom objects."""
    with zipfile.ZipFile(windows) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    model = json.loads(members["models/model.json"])
    graph, signature = model["graph_module"]["graph"], model["graph_module"]["signature"]
    constants: dict[str, Any] = {}
    fqn = "__torch__.torch.classes.tensorrt.Engine" if traced_again else ""
    specs, inputs = [], []
    for node in graph["nodes"]:
        if "no_op_placeholder" not in node["target"]:
            continue
        index = len(constants)
        key = f"_run_on_acc_{2 * index}.engine" if traced_again else f"_run_on_acc_{2 * index}_engine"
        name = f"obj__run_on_acc_{2 * index}_engine" if traced_again else f"_run_on_acc_{2 * index}_engine_1"
        fields = [item["arg"]["as_string"] for item in node["inputs"][1:]][:11]
        fields[PLATFORM] = "linux_x86_64"
        members[f"data/constants/custom_obj_{index}"] = custom_object(fields)
        constants[key] = {
            "path_name": f"custom_obj_{index}", "is_param": False, "use_pickle": True, "tensor_meta": None
        }  # fmt: skip
        argument = {"name": name, "class_fqn": fqn}
        specs.append({"custom_obj": {"arg": argument, "custom_obj_name": key}})
        inputs.append({"as_custom_obj": argument})
        graph["custom_obj_values"][name] = {"name": key, "class_fqn": fqn}
        node["target"] = "torch.ops.tensorrt.execute_engine.default"
        node["inputs"] = [
            {"name": "input_tensors", "arg": node["inputs"][0]["arg"], "kind": 1},
            {"name": "engine", "arg": {"as_custom_obj": argument}, "kind": 1},
        ]
    graph["inputs"] = [*inputs, *graph["inputs"]]
    signature["input_specs"] = [*specs, *signature["input_specs"]]
    members["models/model.json"] = json.dumps(model).encode()
    members["data/constants/model_constants_config.json"] = json.dumps({"config": constants}).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for member, data in members.items():
            archive.writestr(f"{target.stem}/{member}", data)
    return target


def custom_object(fields: list[str]) -> bytes:
    """What torch._C._pickle_save writes for an engine: a zip with this pickle in it."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    pickled = b"\x80\x02c__torch__.torch.classes.tensorrt\nEngine\nq\0)\x81ctorch.jit._pickle\nrestore_type_tag\nq\1]("
    pickled += b"".join(text(field) for field in fields) + b"e" + text("List[str]") + b"\x86Rb."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


@pytest.mark.parametrize("traced_again", [False, True])
def test_a_stock_linux_program_runs_without_torch_tensorrt(program: Path, traced_again: bool) -> None:
    model = source()
    stock = as_stock(program, program.parent / "stock.pt2", traced_again)
    check_archive(stock)
    shutil.move(stock, program)

    def change(manifest: dict[str, Any]) -> None:
        manifest["target"]["platform"] = machine.this_platform()
        manifest["files"][0]["digest"] = hashlib.sha256(program.read_bytes()).hexdigest()

    edit_manifest(program, change)
    compute_engines(program, model)
    check_numbers(load(program, other_gpu=True), model)


def test_engines_are_taken_out_and_read_one_by_one(program: Path) -> None:
    found = take_out(program, ("cpu", None))
    with zipfile.ZipFile(program) as archive:
        model = next(name for name in archive.namelist() if name.endswith("model.json"))
        text = archive.read(model)
    engines = [read() for read in found.engines.values()]
    for fields in engines:
        assert base64.b64encode(fields.engine) in text and fields.engine[:4] == b"vtrt"
        assert fields.platform == "windows_x86_64" and fields.inputs and fields.outputs == ["output0"]
    small = found.program.getvalue()
    assert len(small) < 60_000 and b"dnRy" not in small and b"cuda" not in small
    again = take_out(program, ("cuda", 3))
    assert b'{"type": "cuda", "index": 3}' in again.program.getvalue()


def test_an_engine_of_another_tensorrt_is_refused(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tensorrt_rtx"], "__version__", "1.0.0.1")
    edit_manifest(program, lambda manifest: manifest["toolchain"].update({"tensorrt-rtx": "1.0.0.1"}))
    with pytest.raises(LoadError, match="engine was made by another version"):
        load(program, other_gpu=True, for_verification=True)


def test_a_custom_object_that_the_graph_uses_otherwise_is_said(program: Path) -> None:
    stock = as_stock(program, program.parent / "stock.pt2", False)
    with zipfile.ZipFile(stock) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = "stock/models/model.json"
    members[name] = members[name].replace(b"torch.ops.tensorrt.execute_engine.default", b"torch.ops.aten.relu.default")
    with zipfile.ZipFile(stock, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    with pytest.raises(LoadError, match="in a way that this loader does not know"):
        take_out(stock, ("cpu", None))


@pytest.mark.parametrize("change", ["no graph", "no inputs", "no engine", "no constants"])
def test_a_damaged_program_is_said_to_be_one(program: Path, change: str) -> None:
    with zipfile.ZipFile(as_stock(program, program.parent / "stock.pt2", False)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    model = json.loads(members["stock/models/model.json"])
    if change == "no graph":
        del model["graph_module"]["graph"]
    elif change == "no inputs":
        del model["graph_module"]["graph"]["nodes"][0]["inputs"]
    elif change == "no engine":
        del members["stock/data/constants/custom_obj_0"]
    else:
        members["stock/data/constants/model_constants_config.json"] = b'{"config": {}}'
    members["stock/models/model.json"] = json.dumps(model).encode()
    with zipfile.ZipFile(program, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)

    def told(manifest: dict[str, Any]) -> None:
        manifest["target"]["platform"] = machine.this_platform()
        manifest["files"][0]["digest"] = hashlib.sha256(program.read_bytes()).hexdigest()

    edit_manifest(program, told)
    with pytest.raises(LoadError, match=r"is damaged|in a way that this loader does not know"):
        load(program, other_gpu=True)


FIELDS = [
    "8",
    "e",
    "0%8%9%0%gpu",
    base64.b64encode(b"engine").decode(),
    "a%b",
    "c",
    "0",
    "pickle",
    "windows_x86_64",
    "0",
]


@pytest.mark.parametrize("length", [10, 11, 13])
def test_fields_are_those_of_the_installed_torch_tensorrt(length: int) -> None:
    for given in (FIELDS, [*FIELDS, "1"], [*FIELDS, "1", "0", ""]):
        found = EngineFields.of(given)
        assert (found.inputs, found.outputs, found.engine) == (["a", "b"], ["c"], b"engine")
        info = found.for_torch_tensorrt(length, "10", "linux_x86_64", "0%9%0%0%H200")
        assert len(info) == length and info[ENGINE] == b"engine" and info[NAME] == "e"
        assert (info[0], info[DEVICE], info[PLATFORM], info[METADATA]) == ("10", "0%9%0%0%H200", "linux_x86_64", "")
        assert info[10:] == [*given[10:], *["0", "0", ""][len(given) - 10 :]][: length - 10]


def test_damaged_fields_are_refused() -> None:
    with pytest.raises(LoadError, match="described by too little"):
        EngineFields.of(FIELDS[:5])
    with pytest.raises(LoadError, match="is damaged"):
        EngineFields.of([*FIELDS[:3], "no base64!", *FIELDS[4:]])
