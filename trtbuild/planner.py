"""A recipe into a plan: every cell of targets x precision x format, the steps it takes, or why it cannot be made here.

Steps that come out the same exist once, whatever target or format asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trtbuild.buildable import Question, why_not
from trtbuild.digest import Json
from trtbuild.errors import RecipeError, TrtbuildError, did_you_mean
from trtbuild.graph import ordered
from trtbuild.merge import FILES, merged
from trtbuild.plans import Cell, Plan, Step
from trtbuild.recipe import Recipe, recipe_from_text, recipe_from_toml
from trtbuild.recipe.inputs import Dim, Input
from trtbuild.recipe.positions import line_of, positions
from trtbuild.recipe.targets import Target
from trtbuild.stages.inputs import cast_inputs
from trtbuild.stages.table import writes_live
from trtbuild.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Named:
    """A recipe with where it was read from: `shown` as the user gave it, `name` as dist/ knows it."""

    name: str
    path: Path
    shown: str
    recipe: Recipe
    lines: Mapping[tuple[str | int, ...], int]


def named_recipe(path: Path, content: bytes) -> Named:
    """Read a recipe from the content of its file. RecipeError names every mistake."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        # Reading the file by its path says where the text breaks off.
        recipe_from_toml(path)
        raise
    return Named(path.stem, path.resolve(), str(path), recipe_from_text(text, str(path)), positions(text))


def plan_from_recipe(named: Named, workspace: Workspace) -> Plan:
    """The plan of a recipe. RecipeError where it names files that do not exist."""
    _check_files(named)
    steps: dict[str, Step] = {}
    cells = [
        _cell(named, workspace, steps, target_name, target, precision, format)
        for target_name, target in named.recipe.targets.items()
        for precision in target.precision
        for format in target.formats
    ]
    # Steps that come out the same, for whatever target or format, become one.
    return merged([Plan(steps=ordered(steps.values()), cells=tuple(cells))])


def _cell(
    named: Named,
    workspace: Workspace,
    steps: dict[str, Step],
    target_name: str,
    target: Target,
    precision: str,
    format: str,
) -> Cell:
    name = f"{named.name}/{target_name}/{precision}"
    cell = Cell(named.name, target_name, precision, format, path=f"{name}/{FILES[format]}")
    compile_section = named.recipe.compile
    question = Question(
        platform=target.platform,
        runtime=target.runtime,
        precision=precision,
        format=format,
        converter=compile_section.converter,
        options=compile_section.given(),
        profiles=len(named.recipe.profiles),
        device=target.device,
        ir=compile_section.ir,
        retrace=named.recipe.export.retrace,
    )
    if obstacle := why_not(question):
        return replace(cell, reason=obstacle.reason, hint=obstacle.hint)
    chain = _Chain(named, workspace, steps, target_name, target, precision)
    step = chain.to(format)
    return replace(cell, step=step, verify=chain.verify(format, step))


@dataclass(frozen=True, slots=True)
class _Chain:
    """The steps that lead to the artifacts of one target and precision."""

    named: Named
    workspace: Workspace
    steps: dict[str, Step]
    target_name: str
    target: Target
    precision: str

    def to(self, format: str) -> str:
        if format == "onnx":
            return self._onnx()
        kind = "cross-compile" if self.target.platform.startswith("windows") else "export"
        settings: dict[str, Json] = {"format": format, "platform": self.target.platform}
        files: dict[str, str] = {}
        if kind == "export" and format != "engine":
            settings |= self._how_written(format)
            if format != "aot_inductor":
                extra = self.named.recipe.export.extra_files
                files = {f"extra:{name}": self._file(path) for name, path in extra.items()}
        needs = {"program": self._trace()} if self.target.runtime == "torch" else {"compiled": self._compile()}
        return self._add(
            kind, f"{self.target_name}/{self.precision}/{format}", settings, needs, files, writes=FILES[format]
        )

    def _how_written(self, format: str) -> dict[str, Json]:
        """What an export beside the raw engine depends on; what no file is written with is not in it."""
        recipe, target = self.named.recipe, self.target
        settings: dict[str, Json] = {
            "runtime": target.runtime,
            "device": target.device,
            # Without TensorRT there is no compiled program to trace once more.
            "export": recipe.export.settings() if target.runtime != "torch" else {"retrace": False},
        }
        if writes_live({**settings, "format": format}):
            settings |= {
                "compute_capability": list(target.compute_capability),
                "precision": self.precision,
                "ir": recipe.compile.ir,
                "inputs": self._shapes(),
                "dims": self._dims(),
            }
        return settings

    def verify(self, format: str, artifact: str) -> str:
        """The step that compares an artifact with the source model; none where nothing real is built."""
        recipe, target = self.named.recipe, self.target
        if target.runtime == "null":
            return ""
        return self._add(
            "verify",
            f"{self.target_name}/{self.precision}/{format}",
            {
                **self._source(),
                "dims": self._dims(),
                "profiles": [_ranges(profile) for profile in recipe.optimisation_profiles()[1:]],
                "format": format,
                "platform": target.platform,
                "runtime": target.runtime,
                "device": "cpu" if format == "onnx" else target.device,
                "compute_capability": list(target.compute_capability),
                "precision": self.precision,
                "verify": recipe.verify.settings(self.precision),
            },
            needs={"artifact": artifact, "program": self._trace()},
            files=self._weights(),
        )

    def _source(self) -> dict[str, Json]:
        """The source model and its inputs."""
        recipe = self.named.recipe
        return {
            "entry": _entry(self.named, self.workspace),
            "args": dict(recipe.model.args),
            "seed": recipe.model.seed,
            "inputs": [spec_of(name, given) for name, given in recipe.inputs.items()],
        }

    def _weights(self) -> dict[str, str]:
        weights = self.named.recipe.model.weights
        return {"weights": self._file(weights)} if weights else {}

    def _file(self, path: str) -> str:
        return self.workspace.relative(_beside(self.named.path, path))

    @property
    def _cast(self) -> str:
        # tf32 and mixed precision are made when compiling: they share the trace of the model as it is.
        return self.precision if self.precision in ("fp16", "bf16") else "fp32"

    def _add(
        self,
        kind: str,
        tail: str,
        settings: Mapping[str, Json],
        needs: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        writes: str = "",
    ) -> str:
        id = f"{self.named.name}/{kind}/{tail}"
        if self.target.runtime == "null":
            id = f"{self.named.name}/null-{kind}/{tail}"
            settings = {**settings, "stands_for": kind, "writes": writes or "null.json"}
            kind = "null-trace" if kind == "trace" else "null"
        self.steps[id] = Step(id, kind, settings, needs or {}, files or {})
        return id

    def _trace(self) -> str:
        recipe = self.named.recipe
        return self._add(
            "trace",
            self._cast,
            {
                **self._source(),
                "cast": self._cast,
                "dims": self._dims(),
                "strict": recipe.trace.strict,
                "decompositions": recipe.trace.decompositions,
            },
            files=self._weights(),
        )

    def _onnx(self) -> str:
        settings = {"opset": self.named.recipe.compile.opset, "inputs": self._shapes()}
        return self._add("onnx", self._cast, settings, needs={"program": self._trace()}, writes=FILES["onnx"])

    def _compile(self) -> str:
        recipe, target = self.named.recipe, self.target
        settings: dict[str, Json] = {
            "converter": recipe.compile.converter,
            "runtime": target.runtime,
            "compute_capability": list(target.compute_capability),
            "precision": self.precision,
            "options": recipe.compile.given(),
            "inputs": self._shapes(),
            "dims": self._dims(),
            "profiles": [_ranges(profile) for profile in recipe.optimisation_profiles()[1:]],
        }
        if recipe.compile.ir != "dynamo":
            settings["ir"] = recipe.compile.ir
        if target.runtime == "tensorrt":
            # An RTX engine is one for Windows and Linux; standard TensorRT builds for one of them.
            settings["platform"] = target.platform
        needs = {"onnx": self._onnx()} if recipe.compile.converter == "onnx" else {"program": self._trace()}
        return self._add("compile", f"{self.target_name}/{self.precision}", settings, needs=needs)

    def _dims(self) -> dict[str, Json]:
        return _ranges(self.named.recipe.dims)

    def _shapes(self) -> list[Any]:
        """The inputs as the compiler sees them: cast, and without how examples are drawn."""
        specs = [spec_of(name, given) for name, given in self.named.recipe.inputs.items()]
        return [_without_range(spec) for spec in cast_inputs(specs, self._cast)]


def _ranges(dims: Mapping[str, Dim]) -> dict[str, Json]:
    return {name: {"min": dim.min, "opt": dim.opt, "max": dim.max} for name, dim in dims.items()}


def spec_of(name: str, given: Input) -> dict[str, Any]:
    """An input of a recipe as stages read it (see `stages.inputs`)."""
    return {**_spec(given), "name": name, "keyword": given.keyword}


def _spec(given: Input) -> dict[str, Any]:
    if given.shape is not None:
        spec: dict[str, Any] = {"shape": list(given.shape), "dtype": given.dtype, "format": given.format}
        return {**spec, "range": list(given.range)} if given.range is not None else spec
    if given.dict_ is not None:
        return {"dict": {name: _spec(item) for name, item in given.dict_.items()}}
    kind = "tuple" if given.tuple_ is not None else "list"
    return {kind: [_spec(item) for item in given.tuple_ or given.list_ or ()]}


def _without_range(spec: Mapping[str, Any]) -> dict[str, Any]:
    inner: Callable[[Any], Any] = _without_range
    made = {key: value for key, value in spec.items() if key != "range"}
    for kind in ("tuple", "list"):
        if kind in made:
            made[kind] = [inner(item) for item in made[kind]]
    if "dict" in made:
        made["dict"] = {name: inner(item) for name, item in made["dict"].items()}
    return made


def _beside(recipe: Path, given: str) -> Path:
    """A path in a recipe is relative to the recipe."""
    return recipe.parent / given


def _entry(named: Named, workspace: Workspace) -> str:
    where, _, name = named.recipe.model.entry.rpartition(":")
    if where.endswith(".py"):
        where = workspace.relative(_beside(named.path, where))
    return f"{where}:{name}"


def _check_files(named: Named) -> None:
    model = named.recipe.model
    where = model.entry.rpartition(":")[0]
    wanted = [("entry", where)] if where.endswith(".py") else []
    wanted += [("weights", model.weights)] if model.weights else []
    places = [("model", key, given) for key, given in wanted]
    places += [("export", "extra_files", given) for given in named.recipe.export.extra_files.values()]
    mistakes: list[TrtbuildError] = []
    for section, key, given in places:
        path = _beside(named.path, given)
        if not path.is_file():
            beside = path.parent.iterdir() if path.parent.is_dir() else ()
            hint = did_you_mean(path.name, [other.name for other in beside if other.is_file()])
            mistakes.append(
                TrtbuildError(
                    f"`{key}` in [{section}] names a file that does not exist",
                    [("file", f"{named.shown}:{line_of((section, key), dict(named.lines))}"), ("missing", str(path))],
                    hint if hint.startswith("Did") else "Paths in a recipe are relative to the recipe.",
                )
            )
    if mistakes:
        raise RecipeError(mistakes)
