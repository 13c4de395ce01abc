"""Broken recipes, models, files and machines: what a user reads at 2 a.m., and that nothing else breaks with them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Ran
from tests.project import RECIPE, Project

PLAIN = RECIPE.format(model="", compile="")
ENTRY = 'entry = "models/nets.py:Net"\nargs = { classes = 4 }\n'
TARGET = PLAIN[PLAIN.index("[targets.linux]") :]
WINDOWS = '\n[targets.windows]\nplatform = "windows-x86_64"\n'


@dataclass
class Said:
    """An error as the terminal shows it, taken apart."""

    sentence: str
    facts: dict[str, str] = field(default_factory=dict)
    hint: str = ""


def errors_in(text: str) -> list[Said]:
    """The errors in what trtbuild wrote to stderr."""
    found: list[Said] = []
    name = ""
    for line in text.splitlines():
        if line.startswith("error: "):
            found.append(Said(line.removeprefix("error: ")))
        elif not found:
            continue
        elif line.startswith("hint: "):
            found[-1].hint = line.removeprefix("hint: ")
        elif line.startswith("      ") and found[-1].hint:
            found[-1].hint += f"\n{line.strip()}"
        elif line.startswith("   ") and name:
            found[-1].facts[name] += f"\n{line.strip()}"
        elif match := re.fullmatch(r"  (\S.*?)(?:  +(.*))?", line):
            name = match[1]
            found[-1].facts[name] = match[2] or ""
    return found


def only_error(done: Ran) -> Said:
    [said] = errors_in(done.err)
    return said


def expect(said: Said, sentence: str, facts: dict[str, str] | None = None, hint: str = "") -> None:
    """Each text must be a part of what was said, each fact under its own name."""
    assert sentence in said.sentence
    for name, value in (facts or {}).items():
        assert value in said.facts.get(name, f"there is no fact {name!r}"), said
    assert hint in said.hint, said


def written(dist: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return [path.relative_to(dist).as_posix() for path in sorted(dist.rglob("*")) if path.is_file()]


def expect_nothing_built(project: Project) -> None:
    assert written(project.root / "dist") == []
    assert not (project.root / "cache/tmp").exists() or not any((project.root / "cache/tmp").iterdir())


def edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


# Mistakes that are found before anything runs.


def remove_models(project: Project) -> None:
    shutil.rmtree(project.root / "models")


def same_name_twice(project: Project) -> None:
    (project.root / "other").mkdir()
    shutil.copytree(project.root / "models", project.root / "other/models")
    shutil.copy(project.recipe, project.root / "other/net.toml")


def newer_cache(project: Project) -> None:
    (project.root / "cache").mkdir()
    (project.root / "cache/format.json").write_text('{"format": 2, "trtbuild": "7.0"}')


def foreign_cache(project: Project) -> None:
    (project.root / "cache").mkdir()
    (project.root / "cache/format.json").write_text('["not", "ours"]')


@dataclass(frozen=True)
class Early:
    """A broken thing that is told before anything runs."""

    sentence: str
    facts: dict[str, str] = field(default_factory=dict)
    hint: str = ""
    edits: tuple[tuple[str, str], ...] = ()
    prepare: Callable[[Project], object] = lambda project: None
    command: tuple[str, ...] = ("run", "net.toml")


EARLY = {
    "an unknown key": Early(
        "Unknown key `optt` in [dims.batch]",
        {"file": "net.toml:7"},
        "Did you mean `opt`?",
        edits=(("opt = 4", "optt = 4"),),
    ),
    "an unknown table": Early(
        "Unknown table [compil]", {"file": "net.toml:14"}, "Did you mean `compile`?", edits=(("[compile]", "[compil]"),)
    ),
    "a wrong type": Early(
        "`max` in [dims.batch] must be an integer",
        {"file": "net.toml:8", "got": '"8"'},
        edits=(("max = 8", 'max = "8"'),),
    ),
    "an opt outside min to max": Early(
        "`opt` in [dims.batch] is out of order: min 1, opt 40, max 8",
        {"file": "net.toml:7"},
        "It must be min <= opt <= max.",
        edits=(("opt = 4", "opt = 40"),),
    ),
    "a TOML syntax error": Early(
        "The recipe is not valid TOML", {"file": "net.toml:6", "column": "7"}, edits=(("min = 1\n", "min = \n"),)
    ),
    "a recipe that is not UTF-8": Early(
        "The recipe is not UTF-8 text",
        {"file": "net.toml:2", "byte": "0xe9"},
        "Save it as UTF-8.",
        prepare=lambda project: project.recipe.write_bytes(b"[model]\nentry = 'mod\xe9le.py:Net'\n"),
    ),
    "a missing recipe": Early(
        "There is no such recipe", {"missing": "nett.toml"}, "Did you mean `net.toml`?", command=("run", "nett.toml")
    ),
    "a folder without recipes": Early(
        "The folder holds no recipe", {"folder": "models"}, "Recipes are *.toml files.", command=("run", "models")
    ),
    "a missing entry file": Early(
        "`entry` in [model] names a file that does not exist",
        {"file": "net.toml:2", "missing": "models/net.py"},
        "Did you mean `nets.py`?",
        edits=(("models/nets.py", "models/net.py"),),
    ),
    "a missing folder of the entry file": Early(
        "`entry` in [model] names a file that does not exist",
        {"file": "net.toml:2", "missing": "models/nets.py"},
        "Paths in a recipe are relative to the recipe.",
        prepare=remove_models,
    ),
    "a missing weights file": Early(
        "`weights` in [model] names a file that does not exist",
        {"file": "net.toml:3", "missing": "w.safetensors"},
        "Paths in a recipe are relative to the recipe.",
        edits=(("args = ", 'weights = "w.safetensors"\nargs = '),),
    ),
    "two recipes of one name": Early(
        "Two recipes are called `net`",
        {"one": "net.toml", "other": "other/net.toml"},
        "rename one",
        prepare=same_name_twice,
        command=("run", "net.toml", "other/net.toml"),
    ),
    "an unknown target": Early(
        "No recipe has a target `linus`",
        {"targets": "linux"},
        "Did you mean `linux`?",
        command=("run", "net.toml", "--target", "linus"),
    ),
    "an unknown format": Early(
        "There is no format `engin`",
        {"formats": "engine, exported_program"},
        "Did you mean `engine`?",
        command=("run", "net.toml", "--format", "engin"),
    ),
    "a format that no target asks for": Early(
        "Nothing in the recipes is of the target and format asked for",
        {"in the recipes": "net/linux: engine"},
        "`formats`",
        command=("run", "net.toml", "--format", "onnx"),
    ),
    "an unknown stage to explain": Early(
        "There is no stage `trce/fp32`",
        {"stages": "net/trace/fp32\nnet/compile/linux/fp32\nnet/export/linux/fp32/engine"},
        "Did you mean `net/trace/fp32`?",
        command=("explain", "net.toml", "trce/fp32"),
    ),
    "a missing file to inspect": Early(
        "There is no such file", {"missing": "dist/model.engine"}, command=("inspect", "dist/model.engine")
    ),
    "a file without manifest to inspect": Early(
        "The artifact has no manifest",
        {"file": "models/nets.py", "missing": "models/manifest.json"},
        "trtbuild writes one beside every artifact",
        command=("inspect", "models/nets.py"),
    ),
    "a file in the place of dist": Early(
        "Cannot write to the output folder",
        {"path": "dist", "reason": "File exists"},
        "--dist",
        prepare=lambda project: (project.root / "dist").write_text("in the way"),
    ),
    "a file in the place of the cache": Early(
        "Cannot use the cache",
        {"path": "cache", "reason": "File exists"},
        "--cache",
        prepare=lambda project: (project.root / "cache").write_text("in the way"),
    ),
    "a cache of a newer format": Early(
        "The cache was written by a newer trtbuild",
        {"cache": "cache", "its format": "2 (trtbuild 7.0)", "known here": "1 (trtbuild "},
        "Upgrade trtbuild, or choose another cache with --cache",
        prepare=newer_cache,
    ),
    "a cache with a foreign mark": Early(
        "The cache has an unknown format", {"cache": "cache"}, "choose another cache", prepare=foreign_cache
    ),
}


@pytest.mark.parametrize("case", EARLY.values(), ids=EARLY)
def test_a_mistake_is_told_before_anything_runs(tmp_path: Path, case: Early) -> None:
    project = Project(tmp_path / "net")
    for old, new in case.edits:
        project.edit(project.recipe, old, new)
    case.prepare(project)
    done = project.trtbuild(*case.command)
    assert done.code == 2 and done.out == "" and "Traceback" not in done.err
    expect(only_error(done), case.sentence, case.facts, case.hint)
    assert not list((project.root / "cache/logs-v1").glob("*/**/*.log"))
    expect_nothing_built(project)


def test_several_mistakes_are_told_at_once_in_line_order_and_as_json(tmp_path: Path) -> None:
    project = Project(tmp_path / "net")
    project.recipe.write_text(
        edited(PLAIN, ("max = 8", 'max = "8"'), ("[compile]", "[compil]"), ('["fp32"]', '["fp31"]'))
    )
    done = project.run()
    assert done.code == 2 and "Traceback" not in done.err
    first, second, third = errors_in(done.err)
    expect(first, "`max` in [dims.batch] must be an integer", {"file": "net.toml:8"})
    expect(second, "Unknown table [compil]", {"file": "net.toml:14"}, "Did you mean `compile`?")
    expect(third, "`precision[0]` in [targets.linux]", {"file": "net.toml:20", "got": '"fp31"'}, "`fp32`?")
    assert [mistake["error"] for mistake in done.json["mistakes"]] == [e.sentence for e in (first, second, third)]


@pytest.mark.parametrize(("jobs", "said"), [("0", "'0'"), ("two", "'two'"), ("-1", "'-1'")])
def test_a_number_of_jobs_that_is_none_is_told_in_words(tmp_path: Path, jobs: str, said: str) -> None:
    done = Project(tmp_path / "net").run(f"--jobs={jobs}")
    assert done.code == 2 and f"must be a whole number from 1 on, not {said}" in done.err
    assert "_positive" not in done.err and "Traceback" not in done.err


# Cells that no machine, or not this one, can build.


UNBUILDABLE: dict[str, tuple[tuple[tuple[str, str], ...], dict[str, str]]] = {
    "torchscript for Windows": (
        (("[targets.linux]", f'{WINDOWS}formats = ["torchscript"]\n\n[targets.linux]'),),
        {"net/windows/fp32/torchscript": "cannot be cross-compiled for Windows\nAsk for exported_program or engine."},
    ),
    "aot_inductor for Windows": (
        (("[targets.linux]", f'{WINDOWS}formats = ["aot_inductor"]\n\n[targets.linux]'),),
        {"net/windows/fp32/aot_inductor": "cannot be cross-compiled for Windows"},
    ),
    "programs for Linux": (
        (('["engine"]', '["engine", "torchscript", "aot_inductor", "exported_program"]'),),
        {
            "net/linux/fp32/torchscript": "torchscript needs a GPU while it is written",
            "net/linux/fp32/aot_inductor": "aot_inductor needs a GPU while it is written",
        },
    ),
    "a program traced once more": (
        (
            ('["engine"]', '["engine", "exported_program"]'),
            ("[targets.linux]", "[export]\nretrace = true\n\n[targets.linux]"),
        ),
        {"net/linux/fp32/exported_program": "(retrace in [export]) needs a GPU, and there is none here"},
    ),
    "an engine without TensorRT": (
        (('platform = "linux-x86_64"', 'platform = "linux-x86_64"\nruntime = "torch"'),),
        {"net/linux/fp32/engine": "the engine format is of TensorRT"},
    ),
    "mixed precision without TensorRT": (
        (
            ('platform = "linux-x86_64"', 'platform = "linux-x86_64"\nruntime = "torch"'),
            ('["fp32"]', '["fp16-mixed"]'),
            ('["engine"]', '["exported_program"]'),
        ),
        {"net/linux/fp16-mixed/exported_program": "fp16-mixed is of TensorRT"},
    ),
    "TorchScript's frontend for a format that it does not make": (
        (("[compile]", '[compile]\nir = "ts"'),),
        {"net/linux/fp32/engine": '`ir = "ts"` makes a torchscript, and no engine'},
    ),
    "standard TensorRT": (
        (('platform = "linux-x86_64"', 'platform = "linux-x86_64"\nruntime = "tensorrt"'),),
        {"net/linux/fp32/engine": "standard TensorRT"},
    ),
    "mixed precision as an ONNX file": (
        (('["fp32"]', '["fp32", "fp16-mixed"]'), ('["engine"]', '["onnx"]')),
        {"net/linux/fp16-mixed/onnx": "mixed precision is made when compiling\nAsk for fp16, bf16 or fp32."},
    ),
    "mixed precision by ONNX": (
        (('["fp32"]', '["fp32", "bf16-mixed"]'), ("min_block_size = 1", 'converter = "onnx"')),
        {"net/linux/bf16-mixed/engine": 'needs Torch-TensorRT\'s autocast\nSet `converter = "torch-tensorrt"`.'},
    ),
    "a setting that ONNX does not have": (
        (("min_block_size = 1", 'min_block_size = 1\nconverter = "onnx"'),),
        {"net/linux/fp32/engine": "there is no min_block_size\nRemove it from [compile]"},
    ),
}


@pytest.mark.parametrize(("edits", "cells"), UNBUILDABLE.values(), ids=UNBUILDABLE)
def test_every_unbuildable_cell_is_named_with_its_reason_before_anything_runs(
    tmp_path: Path, edits: tuple[tuple[str, str], ...], cells: dict[str, str]
) -> None:
    project = Project(tmp_path / "net")
    project.recipe.write_text(edited(PLAIN, *edits))
    # As on a builder without a GPU, whatever this machine has.
    done = project.trtbuild("run", "net.toml", CUDA_VISIBLE_DEVICES="")
    assert done.code == 2 and "Traceback" not in done.err
    said = only_error(done)
    count = "1 artifact" if len(cells) == 1 else f"{len(cells)} artifacts"
    expect(said, f"This machine cannot build {count} of the recipe", hint="--skip-unbuildable builds the others.")
    assert said.facts.keys() == cells.keys()
    for name, text in cells.items():
        for part in text.splitlines():
            assert part in said.facts[name]
    assert not list((project.root / "cache/logs-v1").glob("*/**/*.log"))
    expect_nothing_built(project)


def test_skip_unbuildable_builds_the_others_and_says_what_it_left_out(tmp_path: Path) -> None:
    project = Project(tmp_path / "net")
    project.edit(project.recipe, '["engine"]', '["torchscript", "engine"]')
    done = project.run("--skip-unbuildable", CUDA_VISIBLE_DEVICES="")
    assert done.code == 0 and "1 left out" in done.err, done.err
    assert [cell["cell"] for cell in done.json["left_out"]] == ["net/linux/fp32/torchscript"]
    assert written(project.root / "dist") == ["net/linux/fp32/manifest.json", "net/linux/fp32/model.engine"]


# Models and weights that break in their own stage. All are built by one command, each as a recipe of its own, so that
# what one of them does to its process is seen not to touch the others.


@dataclass(frozen=True)
class Late:
    """A broken thing that fails in a stage. `code` is a file of its own with the entry `make`, {own} its name."""

    sentence: str
    facts: dict[str, str] = field(default_factory=dict)
    hint: str = ""
    entry: str = "models/nets.py:Net"
    code: str = ""
    weights: str = ""
    edits: tuple[tuple[str, str], ...] = ()
    recipe: str = PLAIN
    stage: str = "trace/fp32"


SUM = (
    f'[model]\n{ENTRY}[dims.n]\nmin = 2\nmax = 8\n\n[inputs.a]\nshape = ["n", 8]\n\n[inputs.pair]\n'
    'tuple = [{ shape = ["n", 8] }, { list = [{ shape = ["n", 8] }] }]\n\n[inputs.named]\ndict = { z = '
    f'{{ shape = ["n", 8] }} }}\n\n[inputs.gain]\nshape = [8]\nkeyword = true\n\n{TARGET}'
)
PAIR = SUM[SUM.index("[inputs.pair]") : SUM.index("[inputs.named]")]
NAMED = SUM[SUM.index("[inputs.named]") : SUM.index("[inputs.gain]")]
GAIN = SUM[SUM.index("[inputs.gain]") : SUM.index("[targets.linux]")]
FREE_CHANNELS = (
    ('["batch", 3, 16, 16]', '["batch", "channels", 16, 16]'),
    ("[inputs.x]", "[dims.channels]\nmin = 2\nopt = 3\nmax = 4\n\n[inputs.x]"),
)

LATE = {
    "an entry module that is not installed": Late(
        "The entry point `models/{own}.py:make` does not import",
        {"raised": "ModuleNotFoundError: No module named 'torchvison'", "line": "models/{own}.py:2: import torchvison"},
        "Install what provides `torchvison` into this environment, or correct the entry point.",
        code="import torch\nimport torchvison\n",
    ),
    "an entry module that raises": Late(
        "The entry point `models/{own}.py:make` does not import",
        {"raised": "KeyError: 'width'", "line": "models/{own}.py:2: WIDTH = {}['width']"},
        code="import torch\nWIDTH = {}['width']\n",
    ),
    "an entry module with a syntax error": Late(
        "The entry point `models/{own}.py:make` does not import",
        {"raised": "SyntaxError", "line": "models/{own}.py:2: def make(:"},
        code="import torch\ndef make(:\n    pass\n",
    ),
    "an entry attribute that is missing": Late(
        "The entry point `models/nets.py:Atention` does not exist",
        {"missing": "Atention", "in": "models/nets.py"},
        "Did you mean `Attention`?",
        entry="models/nets.py:Atention",
    ),
    "an entry that is not callable": Late(
        "The entry point `models/nets.py:not_callable` is not callable",
        {"is": "int"},
        "An entry point is a function or class that gives the model",
        entry="models/nets.py:not_callable",
    ),
    "an entry that raises": Late(
        "The entry point `models/nets.py:raises` raised an error",
        {
            "raised": "ValueError: no such backbone: resnet51",
            "line": ': raise ValueError("no such backbone: resnet51")',
        },
        entry="models/nets.py:raises",
    ),
    "args that the entry does not take": Late(
        "The entry point `models/nets.py:Net` raised an error",
        {"raised": "unexpected keyword argument 'clases'", "args": "clases = 4"},
        edits=(("classes = 4", "clases = 4"),),
    ),
    "an entry that exits": Late(
        "The entry point `models/{own}.py:make` raised an error",
        {"raised": "SystemExit: no licence", "line": "models/{own}.py:3: sys.exit('no licence')"},
        code="import sys\ndef make():\n    sys.exit('no licence')\n",
    ),
    "an entry that gives no model": Late(
        "The entry point `models/nets.py:no_model` gives no model",
        {"gives": "dict", "wanted": "torch.nn.Module"},
        entry="models/nets.py:no_model",
    ),
    "a segfault": Late(
        "was killed by SIGSEGV",
        {"its end": "reading address 0", "log": ".log"},
        code="import ctypes\ndef make():\n    print('reading address 0')\n    ctypes.string_at(0)\n",
    ),
    "an early end of the process": Late(
        "ended with exit code 3 and no result",
        {"its end": "leaving early", "log": ".log"},
        code="import os\ndef make():\n    print('leaving early')\n    os._exit(3)\n",
    ),
    "a kill": Late(
        "was killed by SIGKILL",
        {"log": ".log"},
        "The system kills processes that take too much memory: build fewer stages at once with -j 1.",
        code="import os, signal\ndef make():\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    ),
    "weights that do not fit": Late(
        "The weights do not fit the model",
        {
            "file": "strange.safetensors",
            "missing": "conv.bias",
            "unexpected": "old.bias",
            "shapes": "head.weight: (5, 8) in the file, (4, 8) in the model",
        },
        "Do the model's args fit the checkpoint?",
        weights="strange.safetensors",
    ),
    "weights saved from DataParallel": Late(
        "The weights do not fit the model",
        {"missing": "conv.weight\nconv.bias", "unexpected": "module.conv.weight"},
        "save model.module.state_dict() instead",
        weights="parallel.pt",
    ),
    "weights with a number for a tensor": Late(
        "The weights do not fit the model", {"shapes": "conv.bias: "}, weights="number.pt"
    ),
    "weights that are a list": Late(
        "The weights are no state dict", {"file": "list.pt", "holds": "list"}, "state_dict()", weights="list.pt"
    ),
    "weights that are a hostile pickle": Late(
        "The weights cannot be read",
        {"file": "hostile.pt", "reason": "it holds more than tensors"},
        "Weights are never unpickled",
        weights="hostile.pt",
    ),
    "weights with hostile tensors": Late(
        "The weights cannot be read",
        {"file": "hostile_inside.pt", "reason": "it holds posix.system"},
        "Weights are never unpickled",
        weights="hostile_inside.pt",
    ),
    "weights that are a whole model": Late(
        "The weights cannot be read",
        {"file": "whole.pt", "reason": "it holds nets.Net"},
        "Weights are never unpickled",
        weights="whole.pt",
    ),
    "weights cut off": Late(
        "The weights cannot be read",
        {"file": "cut.safetensors", "reason": "SafetensorError"},
        "cut off",
        weights="cut.safetensors",
    ),
    "too many inputs": Late(
        "The inputs do not fit forward()",
        {"reason": "too many positional arguments", "inputs": "x, y", "forward": "(x: "},
        "forward()",
        edits=(("[compile]", '[inputs.y]\nshape = ["batch", 3]\n\n[compile]'),),
    ),
    "too few inputs": Late(
        "The inputs do not fit forward()",
        {"reason": "missing a required argument: 'named'", "inputs": "a, pair, gain=", "forward": "named: "},
        "[inputs.NAME]",
        entry="models/nets.py:Sum",
        recipe=SUM,
        edits=((NAMED, ""),),
    ),
    "an unknown keyword": Late(
        "The inputs do not fit forward()",
        {"inputs": "a, pair, named, gian=", "forward": "gain: "},
        "forward() has no parameter `gian`. Did you mean `gain`?",
        entry="models/nets.py:Sum",
        recipe=SUM,
        edits=(("[inputs.gain]", "[inputs.gian]"),),
    ),
    "inputs in another order": Late(
        "The input `named` is in another place than in forward()",
        {"inputs": "a, named, pair", "forward": "(a: "},
        "Inputs come in the order of forward()",
        entry="models/nets.py:Sum",
        recipe=SUM,
        edits=((PAIR, ""), (GAIN, PAIR + GAIN)),
    ),
    "an input of a wrong size": Late(
        "The model cannot be exported",
        {"raised": "to have 3 channels", "line": "self.conv(x)", "inputs": "x: float32 batch x 5 x 16 x 16"},
        "fit forward()",
        edits=(('["batch", 3, 16, 16]', '["batch", 5, 16, 16]'),),
    ),
    "two dims that must be one": Late(
        "The dims of the recipe do not agree with the model",
        {"dims": "m 2..8, n 2..8", "torch says": "must always be equal"},
        "Inputs that must have one size share one name in [dims]",
        entry="models/nets.py:Sum",
        recipe=SUM,
        edits=(
            ('z = { shape = ["n", 8]', 'z = { shape = ["m", 8]'),
            ("[dims.n]", "[dims.m]\nmin = 2\nmax = 8\n\n[dims.n]"),
        ),
    ),
    "a dim that the model fixes": Late(
        "The dims of the recipe do not agree with the model",
        {"dims": "channels 2..4"},
        "a fixed size is written as a number",
        edits=FREE_CHANNELS,
    ),
    "data-dependent control flow": Late(
        "its control flow depends on data",
        {"entry": "models/nets.py:Branches", "line": ": if x.sum() > 0:"},
        "torch.where or torch.cond",
        entry="models/nets.py:Branches",
    ),
    "an op that TensorRT has no converter for": Late(
        "The model cannot be one engine",
        {
            "engines": "2",
            "ops in PyTorch": "torch.ops.aten.special_bessel_j0.default x 1: Torch-TensorRT has no converter",
        },
        "`exported_program`",
        entry="models/nets.py:Hybrid",
        stage="export/linux/fp32/engine",
    ),
    "an op that ONNX has not": Late(
        "The program cannot be expressed in ONNX",
        {"torch says": "bessel_j0"},
        'converter = "torch-tensorrt"',
        entry="models/nets.py:Hybrid",
        edits=(("min_block_size = 1", 'converter = "onnx"'),),
        stage="onnx/fp32",
    ),
    "nothing that can be converted": Late(
        "Nothing of the model would run in TensorRT",
        {"in PyTorch": "its block has fewer ops than min_block_size = 1000"},
        "A block of fewer ops than min_block_size in [compile] stays in PyTorch",
        edits=(("min_block_size = 1", "min_block_size = 1000"),),
        stage="compile/linux/fp32",
    ),
}

WEIGHTS = """
import os, pickle, sys, torch
from safetensors.torch import save_file
sys.path.insert(0, "models")
import nets

class Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)

model = nets.Net()
state = model.state_dict()
torch.save({f"module.{name}": value for name, value in state.items()}, "parallel.pt")
torch.save({**state, "conv.bias": 7}, "number.pt")
torch.save([1, 2], "list.pt")
torch.save(model, "whole.pt")
torch.save({**state, "conv.bias": Hostile()}, "hostile_inside.pt")
with open("hostile.pt", "wb") as file:
    pickle.dump(Hostile(), file)
save_file(state, "cut.safetensors")
os.truncate("cut.safetensors", os.path.getsize("cut.safetensors") // 2)
strange = {**state, "old.bias": torch.zeros(1), "head.weight": torch.zeros(5, 8)}
del strange["conv.bias"]
save_file(strange, "strange.safetensors")
"""


def slug(name: str) -> str:
    return re.sub(r"\W+", "_", name)


@dataclass(frozen=True)
class Night:
    """All of LATE and a sound recipe `net`, built by one command."""

    project: Project
    done: Ran

    def error_of(self, name: str) -> Said:
        """The one error about a recipe."""
        about = [
            said
            for said in errors_in(self.done.err)
            if f"{name}/" in said.facts.get("stage", "") or f"`{name}/" in said.sentence
        ]
        assert len(about) == 1, self.done.err
        return about[0]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    project = Project(tmp_path_factory.mktemp("night") / "all")
    subprocess.run([sys.executable, "-c", WEIGHTS], cwd=project.root, check=True)
    for name, case in LATE.items():
        entry = case.entry
        if case.code:
            entry = f"models/{slug(name)}.py:make"
            (project.root / f"models/{slug(name)}.py").write_text(case.code)
        text = edited(case.recipe, *case.edits)
        if entry != "models/nets.py:Net":
            text = edited(text, (ENTRY, f'entry = "{entry}"\n'))
        if case.weights:
            text = edited(text, ("[model]\n", f'[model]\nweights = "{case.weights}"\n'))
        (project.root / f"{slug(name)}.toml").write_text(text)
    return Night(project, project.trtbuild("run", ".", "--keep-going", "--json"))


@pytest.mark.parametrize("name", LATE)
def test_a_failed_stage_tells_what_the_user_must_change(night: Night, name: str) -> None:
    case, own = LATE[name], slug(name)
    assert night.done.code == 1
    said = night.error_of(own)
    expect(
        said,
        case.sentence.replace("{own}", own),
        {fact: value.replace("{own}", own) for fact, value in case.facts.items()},
        case.hint,
    )
    stage = f"{own}/{case.stage}"
    assert said.facts.get("stage", stage) == stage
    assert "log" not in said.facts or Path(said.facts["log"]).is_file()
    assert "Traceback" not in said.facts.get("its end", "") and "\x1b" not in str(said)
    assert written(night.project.root / "dist" / own) == []
    statuses = {id: status for id, status in night.done.statuses().items() if id.startswith(f"{own}/")}
    after = list(statuses)[list(statuses).index(stage) + 1 :]
    assert statuses[stage] == "failed" and {statuses[id] for id in after} <= {"skipped"}


def test_with_keep_going_what_does_not_depend_on_failures_is_built(night: Night) -> None:
    assert written(night.project.root / "dist") == ["net/linux/fp32/manifest.json", "net/linux/fp32/model.engine"]
    assert [artifact["recipe"] for artifact in night.done.json["artifacts"]] == ["net"]
    assert len(errors_in(night.done.err)) == len(LATE)
    assert "Traceback" not in night.done.err
    assert not any((night.project.root / "cache/tmp").iterdir())


def test_errors_are_the_same_as_json(night: Night) -> None:
    errors = night.done.json["errors"]
    said = errors_in(night.done.err)
    assert [error["error"] for error in errors] == [one.sentence for one in said]
    assert [error["hint"] for error in errors] == [one.hint for one in said]
    assert [error["facts"].keys() for error in errors] == [one.facts.keys() for one in said]


def test_hostile_weights_execute_nothing(night: Night) -> None:
    assert (night.project.root / "hostile.pt").exists()
    assert not list(night.project.root.rglob("executed"))


def test_a_segfault_names_the_users_line_and_without_keep_going_the_rest_is_not_begun(tmp_path: Path) -> None:
    project = Project(tmp_path / "net")
    (project.root / "models/own.py").write_text(LATE["a segfault"].code)
    (project.root / "bad.toml").write_text(edited(PLAIN, (ENTRY, 'entry = "models/own.py:make"\n')))
    done = project.trtbuild("run", "bad.toml", "net.toml", "--json", "-j", "1")
    assert done.code == 1 and "Traceback" not in done.err
    expect(only_error(done), "The process of `bad/trace/fp32` was killed by SIGSEGV", {"its end": "line 4 in make"})
    assert set(done.statuses().values()) == {"failed", "skipped"}
    expect_nothing_built(project)


def test_inspect_refuses_an_artifact_that_the_manifest_does_not_describe(night: Night, tmp_path: Path) -> None:
    folder = shutil.copytree(night.project.root / "dist/net/linux/fp32", tmp_path / "copy")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "model.engine").write_bytes(b"not this")
    (folder / "other.engine").write_bytes(b"nor this")
    changed, unknown = (
        night.project.trtbuild("inspect", str(folder / f"{name}.engine")) for name in ("model", "other")
    )
    for done in (changed, unknown):
        assert done.code == 2 and done.out == "" and "Traceback" not in done.err
    expect(
        only_error(changed),
        "The file is not the one that the manifest describes",
        {"file": "model.engine", "digest": "sha256:", "manifest": manifest["files"][0]["digest"]},
        "build it again",
    )
    expect(
        only_error(unknown), "The manifest does not know the file", {"file": "other.engine", "knows": "model.engine"}
    )


# Machines at fault.


def test_a_broken_torch_is_told_with_its_reason(tmp_path: Path) -> None:
    project = Project(tmp_path / "net")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    done = project.trtbuild("run", "net.toml", first_on_path=str(broken))
    assert done.code == 2 and "Traceback" not in done.err
    said = only_error(done)
    expect(
        said,
        "The workers cannot import torch",
        {"reason": "ImportError: libcudart.so.13: cannot open shared object file"},
        "`trtbuild doctor` says which versions go together.",
    )
    assert "Traceback" in Path(said.facts["log"]).read_text()
    expect_nothing_built(project)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system in memory; skips where it cannot be mounted."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted: {mount.stderr.strip()}")
    try:
        yield
    finally:
        # Lazily: a worker that is just being killed may still hold its log open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("size", ["8k", "48k", "128k", "440k"])
def test_a_full_cache_is_told_whatever_was_being_written(tmp_path: Path, size: str) -> None:
    project = Project(tmp_path / "net")
    disk = tmp_path / "disk"
    with mounted(disk, f"size={size}"):
        done = project.trtbuild("run", "net.toml", "--cache", str(disk / "cache"))
        assert done.code == 2 and "Traceback" not in done.err
        said = only_error(done)
        assert "No space" in f"{said.sentence} {said.facts.get('reason')}"
        assert str(disk) in f"{said.facts.get('path')} {said.facts.get('cache')}"
        assert "Free some space" in said.hint and "--cache" in said.hint
        expect_nothing_built(project)
        assert not (disk / "cache/tmp").exists() or not any((disk / "cache/tmp").iterdir())


def test_a_full_output_folder_is_told_and_the_next_run_only_copies(tmp_path: Path) -> None:
    project = Project(tmp_path / "net")
    disk = tmp_path / "disk"
    with mounted(disk, "size=100k"):
        done = project.trtbuild("run", "net.toml", "--dist", str(disk / "dist"))
        assert done.code == 2 and "Traceback" not in done.err
        expect(
            only_error(done),
            "No space is left for the artifacts",
            {"path": str(disk / "dist/net/linux/fp32/model.engine"), "bytes": ","},
            "choose another folder with --dist",
        )
        assert written(disk) == []
    done = project.run()
    assert done.code == 0 and done.ran() == []


@pytest.mark.parametrize("option", ["--dist", "--cache"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path, option: str) -> None:
    project = Project(tmp_path / "net")
    disk = tmp_path / "disk"

    def run() -> Ran:
        return project.trtbuild("run", "net.toml", option, str(disk / "here"))

    if os.geteuid() == 0:  # permissions do not hold root back, a read-only file system does
        with mounted(disk, "ro,size=100k"):
            done = run()
    else:
        disk.mkdir(mode=0o555)
        done = run()
    assert done.code == 2 and "Traceback" not in done.err
    sentence = {"--dist": "Cannot write to the output folder", "--cache": "Cannot use the cache"}[option]
    said = only_error(done)
    expect(said, sentence, {"path": str(disk / "here")}, "choose another place with --cache or --dist")
    assert "ead-only file system" in said.facts["reason"] or "ermission denied" in said.facts["reason"]
    assert not list((project.root / "cache/logs-v1").glob("*/**/*.log"))
    expect_nothing_built(project)
