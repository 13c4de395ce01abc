"""Every kind of edit on a small real model: what runs, where it stops, and what `explain` says before and after."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.project import RECIPE, Project

TRACE, COMPILE, EXPORT = "net/trace/fp32", "net/compile/linux/fp32", "net/export/linux/fp32/engine"
ALL = [TRACE, COMPILE, EXPORT]

NET = '''\
"""A small net that reads what models read."""

import json
import os
from pathlib import Path

import parts
import torch
from torch import nn

HERE = Path(__file__).parent
SHIFT = 1.0


def unused(x):
    return x


class Net(nn.Module):
    """A convolution and a classifier."""

    def __init__(self, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.head = nn.Linear(8, classes)
        self.slope = json.loads((HERE / "cfg.json").read_text())["act"]["slope"]
        self.more = len(os.listdir(HERE / "data")) if (HERE / "extra.json").exists() else 1

    def forward(self, x):
        y = nn.functional.leaky_relu(self.conv(x.to(torch.float32)), self.slope)
        y = torch.relu(y * 2.0 + SHIFT).mean((2, 3))
        return parts.scaled(self.head(y)) * self.more
'''
PARTS = "def scaled(x):\n    return x * 0.5\n"
CFG = '{"act": {"slope": 0.1}, "note": "none"}'

SAVE = """
import sys, torch
from safetensors.torch import save_file
sys.path.insert(0, "models")
import net
torch.manual_seed(3)
save_file(net.Net().state_dict(), "w.safetensors")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project built once; each edit is made on a copy of it."""
    recipe = RECIPE.replace("models/nets.py:Net", "models/net.py:Net")
    project = Project(tmp_path_factory.mktemp("built") / "net", recipe, model='weights = "w.safetensors"')
    for name, text in {"net.py": NET, "parts.py": PARTS, "cfg.json": CFG, "data/a.txt": ""}.items():
        path = project.root / "models" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    project.model.unlink()
    subprocess.run([sys.executable, "-c", SAVE], cwd=project.root, check=True)
    done = project.run()
    assert done.code == 0, done.err
    assert done.ran() == ALL
    return project


Change = Callable[[Project], None]


def swap(name: str, old: str, new: str) -> Change:
    return lambda project: project.edit(project.root / name, old, new)


def rename_local(project: Project) -> None:
    path = project.root / "models/net.py"
    path.write_text(
        path.read_text().replace("y = ", "z = ").replace("relu(y ", "relu(z ").replace("head(y)", "head(z)")
    )


def move_function(project: Project) -> None:
    path = project.root / "models/net.py"
    text = path.read_text()
    function = "def unused(x):\n    return x\n"
    path.write_text(text.replace(function, "") + f"\n\n{function}")


def flip_weight_bit(project: Project) -> None:
    path = project.root / "w.safetensors"
    data = bytearray(path.read_bytes())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    data[8 + int.from_bytes(data[:8], "little") + header["head.weight"]["data_offsets"][0]] ^= 1
    path.write_bytes(bytes(data))


def reorder_weights(project: Project) -> None:
    code = "from safetensors.torch import *; save_file(load_file('w.safetensors'), 'w.safetensors', {'by': 'hand'})"
    subprocess.run([sys.executable, "-c", code], cwd=project.root, check=True)


def newer(name: str) -> Change:
    """Another version of a distribution: only its metadata, first on the path."""
    return lambda project: (project.root / f"newer/{name}-99.0.dist-info").mkdir(parents=True)


def write(name: str, text: str) -> Change:
    def change(project: Project) -> None:
        (project.root / name).write_text(text)

    return change


@dataclass(frozen=True)
class Edit:
    """What is done, which stages run, and how sentences of `explain` begin: by stage, before the run and after it."""

    change: Change
    runs: list[str]
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)


ONLY_LAYOUT = {TRACE: "models/net.py: only comments or layout"}
FORWARD = {TRACE: "models/net.py: class Net, function forward"}
MUL = "aten.mul.Tensor(leaky_relu, "

EDITS = {
    "a comment": Edit(swap("models/net.py", "SHIFT = 1.0", "# A comment.\nSHIFT = 1.0"), [TRACE], ONLY_LAYOUT),
    "a file laid out anew": Edit(
        swap("models/net.py", "nn.Conv2d(3, 8, 3, stride=2)", "nn.Conv2d(\n            3, 8, 3, stride=2\n        )"),
        [TRACE],
        ONLY_LAYOUT,
    ),
    "a docstring": Edit(swap("models/net.py", "A convolution", "One"), [TRACE], {TRACE: "models/net.py: docstrings"}),
    "a local variable renamed": Edit(
        rename_local,
        [TRACE],
        FORWARD,
    ),
    "a function moved": Edit(move_function, [TRACE], {TRACE: "models/net.py: only the order of its parts"}),
    "a constant": Edit(
        swap("models/net.py", "y * 2.0", "y * 2.5"),
        ALL,
        FORWARD,
        {COMPILE: f"program.pt2: op mul = {MUL}2.0) -> {MUL}2.5)", EXPORT: "engines/"},
    ),
    "an op": Edit(
        swap("models/net.py", "torch.relu(y", "torch.tanh(y"),
        ALL,
        FORWARD,
        {COMPILE: "program.pt2: op relu = aten.relu.default(add) -> tanh = aten.tanh.default(add)"},
    ),
    "a constant of the module": Edit(
        swap("models/net.py", "SHIFT = 1.0", "SHIFT = 1.5"),
        ALL,
        {TRACE: "models/net.py: statements outside of functions and classes"},
        {COMPILE: "program.pt2: op add = aten.add.Tensor(mul, 1.0) -> aten.add.Tensor(mul, 1.5)"},
    ),
    "a function of another file": Edit(
        swap("models/parts.py", "0.5", "0.25"), ALL, {TRACE: "models/parts.py: function scaled"}
    ),
    "a value of a data file": Edit(
        swap("models/cfg.json", '"slope": 0.1', '"slope": 0.2'),
        ALL,
        {TRACE: "models/cfg.json: act.slope 0.1 -> 0.2"},
        {COMPILE: "program.pt2: op leaky_relu = "},
    ),
    "a value that is not used": Edit(
        swap("models/cfg.json", '"none"', '"some"'), [TRACE], {TRACE: 'models/cfg.json: note "none" -> "some"'}
    ),
    "a file that was looked for": Edit(write("models/extra.json", ""), [TRACE], {TRACE: "models/extra.json appeared"}),
    "a file that nothing reads": Edit(write("models/notes.txt", "x"), []),
    "one bit of a weight": Edit(
        flip_weight_bit, ALL, {TRACE: "w.safetensors: head.weight"}, {COMPILE: "program.pt2: weights head.weight"}
    ),
    "the same weights in another file": Edit(
        reorder_weights, [TRACE], {TRACE: "w.safetensors: no tensor, only its metadata"}
    ),
    "an upper bound": Edit(
        swap("net.toml", "max = 8", "max = 9"),
        ALL,
        {TRACE: "dims.batch.max 8 -> 9", COMPILE: "dims.batch.max 8 -> 9"},
        {COMPILE: "dims.batch.max 8 -> 9"},
    ),
    # The size that is tuned for is no part of the program's meaning: the trace is made again, and the engine for it.
    "the size to tune for": Edit(
        swap("net.toml", "opt = 4", "opt = 2"),
        ALL,
        dict.fromkeys((TRACE, COMPILE), "dims.batch.opt 4 -> 2"),
        {COMPILE: "dims.batch.opt 4 -> 2"},
    ),
    "an input renamed": Edit(
        swap("net.toml", "[inputs.x]", "[inputs.image]"),
        [TRACE, COMPILE],
        {TRACE: "inputs.x renamed image"},
        {COMPILE: "inputs.x renamed image"},
    ),
    "an input's dtype": Edit(
        swap("net.toml", "range = [0.0, 1.0]", 'range = [0.0, 1.0]\ndtype = "float16"'),
        ALL,
        {TRACE: "inputs.x.dtype float32 -> float16"},
        {COMPILE: "program.pt2: "},
    ),
    "an argument of the model": Edit(
        swap("net.toml", "[dims.batch]", "seed = 1\n[dims.batch]"), [TRACE], {TRACE: "seed 0 -> 1"}
    ),
    "a setting of the compiler": Edit(
        swap("net.toml", "min_block_size = 1\n", "min_block_size = 1\noptimization_level = 2\n"),
        [COMPILE],
        {COMPILE: "compile.optimization_level added 2"},
    ),
    "the GPUs": Edit(
        swap("net.toml", '["8.9"]', '["8.6"]'), [COMPILE, EXPORT], {COMPILE: 'compute_capability[0] "8.9" -> "8.6"'}
    ),
    "another torch": Edit(newer("torch"), [TRACE, COMPILE], {TRACE: "torch "}, {COMPILE: "torch "}),
    "another Torch-TensorRT": Edit(
        newer("torch_tensorrt_rtx"), [COMPILE], {COMPILE: "torch-tensorrt-rtx "}, {COMPILE: "torch-tensorrt-rtx "}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit(built: Project, tmp_path: Path, name: str) -> None:
    edit = EDITS[name]
    shutil.copytree(built.root, tmp_path / "copy")
    project = _Copy(tmp_path / "copy")
    edit.change(project)
    path = {"first_on_path": str(project.root / "newer")} if (project.root / "newer").exists() else {}

    def explained() -> dict[str, Any]:
        done = project.trtbuild("explain", "net.toml", "--json", **path)
        assert done.code == 0, done.err
        return {one["id"]: one for one in done.json}

    def told(account: dict[str, Any], wanted: str) -> bool:
        sentences = [sentence for change in account["changes"] for sentence in change["words"]]
        assert any(sentence.startswith(wanted) for sentence in sentences), sentences
        return True

    ahead = explained()
    assert [id for id in ALL if ahead[id]["action"] == "run"] == edit.runs[:1]
    for id, wanted in edit.before.items():
        assert told(ahead[id], wanted)
    done = project.run(**path)
    assert done.code == 0, done.err
    ran = done.ran()
    assert [id for id in ran if id != EXPORT] == [id for id in edit.runs if id != EXPORT]
    behind = explained()
    for id in ALL:
        assert behind[id]["last"]["status"] == ("ran" if id in ran or not ran else "cached"), behind[id]
        assert behind[id]["action"] == "cached"
    for id, wanted in {**{id: text for id, text in edit.before.items() if id in ran}, **edit.after}.items():
        assert told(behind[id]["last"], wanted)
    for stage in done.json["stages"]:
        if stage["id"] in edit.runs[:1]:
            # The reason that `run` gives is the first of the sentences.
            assert stage["reason"].startswith(ahead[stage["id"]]["changes"][0]["words"][0])


class _Copy(Project):
    """A project as it lies there."""

    def __init__(self, root: Path) -> None:
        self.root, self.recipe = root, root / "net.toml"
