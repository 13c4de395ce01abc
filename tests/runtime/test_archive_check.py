"""Hostile programs are refused and do not run; honest ones of many kinds pass."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.nets import Attention, Hybrid, Net, Sum
from tests.runtime.samples import affine_program, artifact, tensor
from trtbuild.runtime import LoadError, load
from trtbuild.runtime.archive_check import check_archive
from trtbuild.runtime.archive_zip import UnsafeArchive
from trtbuild.runtime.expressions import fault_of_guard, fault_of_size

Members = dict[str, bytes]


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"model/{name}", data)
    return path


def edited(members: Members, name: str, change: Callable[[Any], None]) -> Members:
    value = json.loads(members[name])
    change(value)
    return members | {name: json.dumps(value).encode()}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._marker,)


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def code(marker: Path) -> str:
    return f"__import__('os').mkdir({str(marker)!r})"


def hostile(members: Members, marker: Path) -> dict[str, Members]:
    model, weights = "models/model.json", "data/weights/model_weights_config.json"
    constants = "data/constants/model_constants_config.json"

    def size(value: Any) -> None:
        value["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = code(marker)

    def sizes(value: Any) -> None:
        value["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = [code(marker)]

    def symbol(value: Any) -> None:
        text = f"Symbol({code(marker)!r})"
        value["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = text

    def guard(value: Any) -> None:
        value["guards_code"] = [f"L['x'].size()[0] > 0 or {code(marker)}"]

    def target(name: str) -> Callable[[Any], None]:
        def change(value: Any) -> None:
            value["graph_module"]["graph"]["nodes"][0]["target"] = name

        return change

    def structure(kind: str, context: Any) -> Callable[[Any], None]:
        def change(value: Any) -> None:
            spec = [1, {"type": kind, "context": json.dumps(context), "children_spec": []}]
            value["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(spec)

        return change

    def as_pickle(value: Any) -> None:
        next(iter(value["config"].values()))["use_pickle"] = True

    def as_object(prefix: str) -> Callable[[Any], None]:
        def change(value: Any) -> None:
            value["config"]["thing"] = {
                "path_name": f"{prefix}_0", "is_param": False, "use_pickle": True, "tensor_meta": None
            }  # fmt: skip

        return change

    def elsewhere(value: Any) -> None:
        next(iter(value["config"].values()))["path_name"] = "../../../etc/passwd"

    def named(old: str, new: str) -> Callable[[Any], None]:
        def walk(value: Any) -> None:
            for item in list(value.items()) if isinstance(value, dict) else []:
                key, inner = item
                if inner == old:
                    value[key] = new
                if key == old:
                    value[new] = value.pop(old)
                walk(inner)
            for inner in value if isinstance(value, list) else []:
                walk(inner)

        return walk

    def operator(value: Any) -> None:
        arguments = [{"as_bool": False}, {"as_operator": "torch.os.mkdir"}, {"as_string": str(marker)}]
        value["graph_module"]["graph"]["nodes"][0] |= {
            "target": "torch.ops.higher_order.wrap_with_set_grad_enabled",
            "inputs": [{"name": "", "arg": argument, "kind": 1} for argument in arguments],
        }

    def keyword(value: Any) -> None:
        children = [
            {"type": "builtins.tuple", "context": "null", "children_spec": []},
            {"type": "builtins.dict", "context": json.dumps([f"x={code(marker)}"]), "children_spec": []},
        ]
        spec = [1, {"type": "builtins.tuple", "context": "null", "children_spec": children}]
        value["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)

    def parameter(value: Any) -> None:
        value["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [f"x={code(marker)}"]

    def path(value: Any) -> None:
        spec = {"arg": {"name": "p_w"}, "parameter_name": f'w") or {code(marker)} or ("'}
        value["graph_module"]["signature"] = {"input_specs": [{"parameter": spec}]}

    def hidden(value: Any) -> None:
        operator = {"as_operator": "torch.os.mkdir"}
        value["graph_module"]["graph"]["nodes"][0]["inputs"] = [{"as_string_to_argument": {"metadata": operator}}]

    factory = {"default_factory_module": "antigravity", "default_factory_name": "fly", "dict_context": []}
    enum = [{"__enum__": True, "fqn": "antigravity:fly", "name": "x"}]
    weight = next(name for name in members if name.startswith("data/weights/weight_"))
    payload = pickled(Payload(marker))
    return {
        "sample inputs": members | {"data/sample_inputs/model.pt": payload},
        "sample inputs in the old form": members | {"data/sample_inputs/model.pt": pickle.dumps(Payload(marker))},
        "a pickled weight": edited(members, weights, as_pickle) | {weight: payload},
        "weights in the old form": members | {"data/weights/model.pt": payload},
        "a weight from elsewhere": edited(members, weights, elsewhere),
        "a size": edited(members, model, size),
        "a list of sizes": edited(members, model, sizes),
        "a symbol's name": edited(members, model, symbol),
        "a guard": edited(members, model, guard),
        "a call of Python": edited(members, model, target("torch.os.system")),
        "a call that reads files": edited(members, model, target("torch.ops.aten.from_file.default")),
        "a call of an unknown library": edited(members, model, target("torch.ops.evil.run.default")),
        "a call of an extension": edited(members, model, target("#evil:run")),
        "a call of operator": edited(members, model, target("_operator.methodcaller")),
        "a function as an argument": edited(members, model, operator),
        "a function in a dict": edited(members, model, hidden),
        "a value's name": edited(members, model, named("x", f"x={code(marker)}")),
        "a keyword's name": edited(members, model, keyword),
        "a parameter's name": edited(members, model, parameter),
        "a tensor's path": edited(members, model, path),
        "a defaultdict": edited(members, model, structure("collections.defaultdict", factory)),
        "an enum": edited(members, model, structure("builtins.dict", enum)),
        "a strange type": edited(members, model, structure("os.system('x')", [])),
        "a custom object": edited(members, constants, as_object("custom_obj"))
        | {"data/constants/custom_obj_0": payload},
        "an opaque object": edited(members, constants, as_object("opaque_obj"))
        | {"data/constants/opaque_obj_0": pickle.dumps(Payload(marker))},
        "native code": members | {"data/aotinductor/model/model.so": b"\x7fELF"},
        "native code among weights": members | {"data/weights/weight_0.so": b"\x7fELF"},
        "a member from elsewhere": members | {"../models/model.json": members[model]},
        "two models in other case": members | {"Models/model.json": edited(members, model, size)[model]},
        "a program that is no JSON": members | {model: b"{"},
    }


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Members:
    return members_of(affine_program(tmp_path_factory.mktemp("honest"))[0])


NAMES = list(
    hostile(
        {
            "models/model.json": json.dumps(
                {
                    "graph_module": {
                        "graph": {
                            "tensor_values": {"x": {"sizes": [{"as_expr": {}}]}},
                            "nodes": [{}],
                        },
                        "module_call_graph": [{"signature": {}}],
                    }
                }
            ).encode(),
            "data/weights/model_weights_config.json": b'{"config": {"w": {}}}',
            "data/constants/model_constants_config.json": b'{"config": {}}',
            "data/weights/weight_0": b"",
        },
        Path("marker"),
    )
)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_programs_are_refused_and_do_not_run(honest: Members, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "ran"
    path = write(tmp_path / "model.pt2", hostile(honest, marker)[name])
    artifact(path, "exported_program", [tensor("x", ["batch", 4])])
    with pytest.raises(LoadError, match="could run code as it is opened") as caught:
        load(path)
    assert "trusted=True" in str(caught.value) and "found" in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["a size", "sample inputs", "a pickled weight", "a value's name"])
def test_torch_itself_would_run_them(honest: Members, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "ran"
    path = write(tmp_path / "model.pt2", hostile(honest, marker)[name])
    script = f"import torch\ntry:\n    torch.export.load({str(path)!r})\nexcept Exception as error:\n    print(error)\n"
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert marker.exists()


def test_without_the_check_pickles_are_still_not_read(honest: Members, tmp_path: Path) -> None:
    from trtbuild.runtime.weights_only import weights_only

    marker = tmp_path / "ran"
    path = write(tmp_path / "model.pt2", hostile(honest, marker)["sample inputs"])
    with weights_only(), pytest.raises((RuntimeError, pickle.UnpicklingError)):
        torch.export.load(path)
    assert not marker.exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize("form", ["compressed", "before", "after", "comment", "twice", "two roots", "cut", "empty"])
def test_archives_in_another_form_than_torch_writes_are_refused(honest: Members, tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "m.pt2", honest, zipfile.ZIP_DEFLATED if form == "compressed" else zipfile.ZIP_STORED)
    data = path.read_bytes()
    if form == "before":
        path.write_bytes(b"#!/bin/sh\n" + data)
    elif form == "after":
        path.write_bytes(data + b"x")
    elif form == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif form == "empty":
        path.write_bytes(b"")
    elif form != "compressed":
        with zipfile.ZipFile(path, "a") as archive:
            if form == "comment":
                archive.comment = b"hello"
            elif form == "twice":
                with pytest.warns(UserWarning):
                    archive.writestr("model/models/model.json", honest["models/model.json"])
            else:
                archive.writestr("other/version", b"3")
    with pytest.raises(UnsafeArchive):
        check_archive(path)


def _saved(folder: Path, model: torch.nn.Module, *arguments: Any, **more: Any) -> Path:
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(model.eval(), *arguments, **more), path)
    return path


class Branch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


class Counter(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.constant = torch.arange(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return x.reshape(-1)[: x.shape[0] // 2 * 2].view(2, -1) * self.count + self.constant.sum()


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.b(self.a(x)).bfloat16()


class Found(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 0] * math_scale(x.shape[0])


def math_scale(size: int) -> float:
    return (size * 3 + 1) // 2


HONEST: dict[str, Callable[[Path], Path]] = {
    "static": lambda folder: _saved(folder, Net(), (torch.randn(2, 3, 16, 16),)),
    "dynamic": lambda folder: affine_program(folder)[0],
    "state": lambda folder: _saved(folder, Counter(), (torch.randn(8),)),
    "attention": lambda folder: _saved(
        folder,
        Attention(),
        (torch.randn(2, 5, 32),),
        dynamic_shapes=({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},),
    ),
    "op without converter": lambda folder: _saved(folder, Hybrid(), (torch.randn(2, 3, 16, 16),)),
    "nested": lambda folder: _saved(
        folder, Sum(), *[((t := torch.randn(2, 8)), (t.clone(), [t.clone()]), {"z": t.clone()})], {"gain": t.clone()}
    ),
    "cond": lambda folder: _saved(folder, Branch(), (torch.randn(3),)),
    "tied weights": lambda folder: _saved(folder, Tied(), (torch.randn(2, 4),)),
    "data-dependent": lambda folder: _saved(
        folder, Found(), (torch.randn(6),), dynamic_shapes=({0: torch.export.Dim("n", min=2, max=9)},)
    ),
}


@pytest.mark.parametrize("name", list(HONEST))
def test_honest_programs_pass(tmp_path: Path, name: str) -> None:
    path = HONEST[name](tmp_path)
    check_archive(path)
    decomposed = torch.export.load(path).run_decompositions()
    torch.export.save(decomposed, tmp_path / "again.pt2", extra_files={"labels.txt": "cat"})
    check_archive(tmp_path / "again.pt2")


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s40', positive=True, integer=True)",
        "Integer(3)",
        "Mul(Integer(2), Symbol('s0', integer=True))",
        "Add(FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2)), Integer(-1))",
        "s0",
        "2*s27 + 1",
        "Max(1, s3//2)",
        "Ne(Symbol('u0', integer=True), 0)",
        "Mod(s0, 4)",
    ],
)
def test_honest_sizes(text: str) -> None:
    assert fault_of_size(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "s0.__class__",
        "(lambda: 0)()",
        "[x for x in (1,)]",
        "Symbol('__import__(\"os\")')",
        "Symbol(name=open('/etc/passwd'))",
        "eval('1')",
        "f'{s0}'",
        "s0 if s1 else s2",
        "x := 1",
        "",
        "b'bytes'",
        "(" * 3000 + ")" * 3000,
    ],
)
def test_hostile_sizes_and_guards(text: str) -> None:
    assert fault_of_size(text) is not None
    assert fault_of_guard(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "L['x'].size()[0] >= 2",
        "L['args'][0].stride()[1] == 3*L['args'][0].size()[2]",
        "Mod(L['x'].size()[0], 2) == 0",
        "2 <= L['x'].size()[0] and L['x'].size()[0] <= 8",
        "Eq(L['flat_args'][1].size()[0], L['flat_args'][0].size()[0])",
        "math.trunc(L['x'].size()[0]) != 1",
    ],
)
def test_honest_guards(text: str) -> None:
    assert fault_of_guard(text) is None
