"""Random edits, reverts, kills and switches of target against a plain model of what must run.

The model knows nothing of keys or of the store. It says of each stage what its output is made of; a stage must run
exactly if nothing made of the same has been made before. Null stages stand for the real ones, in such recipes.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import trtbuild
from trtbuild.api import open_session, preview
from trtbuild.events import Event, StageEnded, StageStarted, Status

SEQUENCES, CHUNKS, EDITS = 240, 12, 9
SOURCES = ("a.py", "b.py", "sub/c.py", "data.txt")
# What a file may come to hold; the same text with another comment means the same.
TEXTS = ("one", "two", "read b.py", "one\nread sub/c.py", "read data.txt\nread sub/c.py", "read gone.txt")

RECIPE = """\
[model]
entry = "a.py:net"
args = {{ n = {n} }}

[dims.batch]
min = 1
opt = {opt}
max = 8

[inputs.x]
shape = ["batch", 4]

[compile]
converter = "{converter}"
{opset}

[targets.linux]
platform = "linux-x86_64"
runtime = "null"
precision = {precision}
formats = {formats}

[targets.windows]
platform = "windows-x86_64"
runtime = "null"
precision = {precision}
formats = ["engine"]
"""


@dataclass
class Recipe:
    """The settings of a recipe that the edits change."""

    n: int = 1
    opt: int = 2
    opset: int = 18
    converter: str = "onnx"
    precision: list[str] = field(default_factory=lambda: ["fp32"])
    formats: list[str] = field(default_factory=lambda: ["engine"])

    def text(self) -> str:
        values = {key: str(value).replace("'", '"') for key, value in vars(self).items()}
        return RECIPE.format(**{**values, "opset": f"opset = {self.asked_opset()}" if self.asked_opset() else ""})

    def asked_opset(self) -> int | None:
        """It is refused where the ONNX way is not taken."""
        return self.opset if self.converter == "onnx" else None


class Model:
    """What each stage's output is made of, and what has been made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: set[Any] = set()

    def read(self, name: str, found: dict[str, str | None]) -> dict[str, str | None]:
        """The files that a trace reads, as they are."""
        if name not in found:
            path = self.root / name
            found[name] = path.read_text() if path.is_file() else None
            for line in (found[name] or "").splitlines():
                if line.startswith("read "):
                    self.read(line.partition("#")[0].removeprefix("read ").strip(), found)
        return found

    def stages(self, recipe: Recipe, name: str, targets: list[str]) -> dict[str, tuple[Any, Any]]:
        """By id: what a stage is made of, and what its output says."""
        read = self.read("a.py", {})
        meaning = tuple((path, text and strip(text)) for path, text in sorted(read.items()))
        found: dict[str, tuple[Any, Any]] = {}

        def add(kind: str, tail: str, made_of: Any, says: Any = None) -> Any:
            found[f"{name}/null-{kind}/{tail}"] = (kind, made_of), (kind, says or made_of)
            return says or made_of

        for target in targets:
            for precision in recipe.precision:
                cast = precision if precision in ("fp16", "bf16") else "fp32"
                asked = (recipe.n, recipe.opt, cast)

                def trace(cast: str = cast, asked: Any = asked) -> Any:
                    return add("trace", cast, (asked, tuple(sorted(read.items()))), (asked, meaning))

                def onnx(cast: str = cast) -> Any:
                    # It sees no opt, and what the trace says of it.
                    return add("onnx", cast, (recipe.asked_opset(), trace()))

                for format in recipe.formats if target == "linux" else ["engine"]:
                    if format == "onnx":
                        onnx()
                        continue
                    before = onnx() if recipe.converter == "onnx" else trace()
                    options = (recipe.converter, precision, recipe.opt)
                    compiled = add("compile", f"{target}/{precision}", (options, before))
                    kind = "export" if target == "linux" else "cross-compile"
                    add(kind, f"{target}/{precision}/{format}", (format, target, compiled))
        return found


def strip(text: str) -> tuple[str, ...]:
    return tuple(line for line in (line.partition("#")[0].strip() for line in text.splitlines()) if line)


class Killed(Exception):
    pass


class World:
    """A workspace with two recipes, edited at random."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        shutil.rmtree(root, ignore_errors=True)
        (root / "sub").mkdir(parents=True)
        (root / "pyproject.toml").touch()
        for name in SOURCES[:-1]:
            (root / name).write_text("one\n")
        self.recipes = {"p": Recipe(), "q": Recipe(n=self.random.choice([1, 2]))}
        self.model = Model(root)
        self.write()

    def write(self) -> None:
        for name, recipe in self.recipes.items():
            (self.root / f"{name}.toml").write_text(recipe.text())

    def edit(self) -> None:
        """One edit of a file or a recipe; many lead back to where things were."""
        pick = self.random
        path = self.root / pick.choice(SOURCES)
        recipe = self.recipes[pick.choice("pq")]
        what = pick.choice(["text", "text", "comment", "touch", "remove", "recipe", "recipe", "unrelated"])
        if what == "text":
            path.write_text(pick.choice(TEXTS) + "\n")
        elif what == "comment" and path.exists():
            path.write_text(f"{path.read_text().rstrip()}  # {pick.randrange(3)}\n")
        elif what == "touch" and path.exists():
            path.touch()
        elif what == "remove" and path.name != "a.py":
            path.unlink(missing_ok=True)
        elif what == "unrelated":
            (self.root / "notes.txt").write_text(str(pick.random()))
        elif what == "recipe":
            change = pick.choice(
                [
                    {"n": pick.choice([1, 2])},
                    {"opt": pick.choice([2, 4])},
                    {"opset": pick.choice([18, 19])},
                    {"converter": pick.choice(["onnx", "torch-tensorrt"])},
                    {"precision": pick.choice([["fp32"], ["fp32", "fp16"], ["tf32", "fp32"]])},
                    {"formats": pick.choice([["engine"], ["onnx"], ["engine", "onnx"]])},
                ]
            )
            vars(recipe).update(change)
            self.write()

    def expected(self, names: list[str], targets: list[str]) -> dict[str, tuple[Any, Any]]:
        found: dict[str, tuple[Any, Any]] = {}
        for name in names:
            found |= self.model.stages(self.recipes[name], name, targets)
        return found

    def run(self) -> None:
        """Plan and run a part of the matrix, killed at times, and hold both against the model."""
        pick = self.random
        names = pick.choice([["p"], ["q"], ["p", "q"]])
        targets = pick.choice([["linux", "windows"], ["linux"], ["windows"]])
        selection = [] if len(targets) == 2 else targets
        paths = [self.root / f"{name}.toml" for name in names]
        # A step that several targets share goes by the name of the first, asked for or not.
        ids = {id: made_of for id, (made_of, _) in self.expected(names, ["linux", "windows"]).items()}
        wanted = {made_of for made_of, _ in self.expected(names, targets).values()}
        planned = {step.id: step.action for step in preview(open_session(paths, targets=selection))}
        watcher = Watcher(pick.randrange(4) if pick.random() < 0.2 else None)
        result = None
        with contextlib.suppress(Killed):
            result = trtbuild.run(paths, targets=selection, jobs=pick.choice([1, 3]), listener=watcher)
        new = wanted - self.model.made
        made = [ids[id] for id in watcher.ran]
        assert set(made) <= new, "a stage ran needlessly"
        assert len(made) == len(set(made)), "a stage ran twice"
        assert all(planned[id] in ("run", "unknown") for id in watcher.ran), "plan said it was cached"
        self.model.made |= set(made)
        if result is None:
            return
        assert set(made) == new, "a stage did not run that had to"
        statuses = {stage.id: str(stage.status) for stage in result.stages}
        assert {id for id, status in statuses.items() if status == "ran"} == set(watcher.ran)
        assert all(ids[id] in new for id, action in planned.items() if action == "run"), "plan said it would run"
        assert {ids[id] for id in statuses} == wanted


class Watcher:
    """Notes the stages that ran, and ends the run as a kill would when one more starts than it should live for."""

    def __init__(self, lives: int | None) -> None:
        self.lives, self.started = lives, 0
        self.ran: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            if self.started == self.lives:
                raise Killed
            self.started += 1
        elif isinstance(event, StageEnded) and event.status is Status.RAN:
            self.ran.append(event.step)


def artifacts(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((root / "dist").rglob("model.*")):
        yield str(path.relative_to(root)), path.read_bytes()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_runs_is_what_a_plain_model_says_and_plan_says_the_same(tmp_path: Path, chunk: int) -> None:
    for seed in range(chunk * SEQUENCES // CHUNKS, (chunk + 1) * SEQUENCES // CHUNKS):
        world = World(tmp_path / "w", seed)
        try:
            for _ in range(EDITS):
                world.edit()
                if world.random.random() < 0.7:
                    world.run()
            paths = [world.root / "p.toml", world.root / "q.toml"]
            trtbuild.run(paths)
            found = dict(artifacts(world.root))
            shutil.rmtree(world.root / "dist")
            trtbuild.run(paths, cache=tmp_path / f"fresh-{seed}")
            for name, content in artifacts(world.root):
                assert found[name] == content, f"{name} is not what a fresh build makes"
        except Exception as error:
            raise AssertionError(f"sequence {seed}: {error}") from error
