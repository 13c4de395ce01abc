"""The recipe as frozen values. A Recipe that exists is sound in itself; whether its files exist is not asked here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from trtbuild.recipe.checks import Parts, cross_checks
from trtbuild.recipe.compile_settings import Compile
from trtbuild.recipe.export_settings import Export
from trtbuild.recipe.fields import INT64_MAX, FolderName, JsonTable, Positive, Section, Tolerance
from trtbuild.recipe.inputs import Dim, Dims, Inputs, ProfileRange
from trtbuild.recipe.mistakes import invalid, shown
from trtbuild.recipe.shapes import with_shapes_split
from trtbuild.recipe.targets import Target

_ENTRY = re.compile(r"(?:[^:]*[^:/]\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_WEIGHTS = (".safetensors", ".pt", ".pth")

Profile = dict[str, ProfileRange]


def _entry(value: str) -> str:
    if not _ENTRY.fullmatch(value):
        raise invalid(
            "{here} names no callable", got=shown(value), hint='Write "file.py:name" or "package.module:name".'
        )
    return value


def _weights(value: str) -> str:
    if PurePosixPath(value).suffix not in _WEIGHTS:
        raise invalid("{here} is of a kind that is not read", allowed=", ".join(_WEIGHTS), got=shown(value))
    return value


class ModelSection(Section):
    """Where the model comes from."""

    entry: Annotated[str, AfterValidator(_entry)] = Field(
        description="The callable that returns the torch.nn.Module: "
        '"file.py:name", relative to the recipe, or "package.module:name".',
        examples=["models/resnet.py:resnet18"],
    )
    args: JsonTable = Field(
        default_factory=dict, description="Keyword arguments of the callable.", examples=[{"num_classes": 1000}]
    )
    weights: Annotated[str, AfterValidator(_weights)] | None = Field(
        default=None,
        description="A state dict: .safetensors, or .pt or .pth, which are read with weights_only=True.",
        examples=["weights/resnet18.safetensors"],
    )
    seed: Annotated[int, Field(ge=0, le=INT64_MAX)] = Field(
        default=0, description="Random weights are drawn under this seed where `weights` is absent."
    )


class Trace(Section):
    """How the model becomes a graph."""

    strict: bool = Field(default=False, description="Trace with torch.export's strict mode.")
    decompositions: Literal["default", "tensorrt"] = Field(
        default="default", description="The decompositions applied to the traced graph."
    )


class OutputTolerance(Section):
    """How far one output may be from the source model's: |found - reference| <= atol + rtol * |reference|."""

    rtol: Tolerance = Field(
        default_factory=dict,
        description="Relative tolerance: one number, or one per precision; where absent, what the precision's rounding "
        "leads to expect.",
    )
    atol: Tolerance = Field(
        default_factory=dict,
        description="Absolute tolerance: one number, or one per precision; where absent, rtol times the root mean "
        "square of the reference.",
    )
    mismatch: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="The share of elements that may be beyond the tolerance; 0 where absent."
    )


class Verify(OutputTolerance):
    """How artifacts are compared with the source model. One number stands for every precision."""

    samples: Positive = Field(
        default=3, description="How many seeds of example inputs are tried, beside min, opt and max of every dim."
    )
    reference: Literal["float32", "float64"] = Field(
        default="float32", description="The precision in which the source model is run to compare with."
    )
    outputs: dict[str, OutputTolerance] = Field(
        default_factory=dict,
        description='Tolerances of single outputs, by name: the key in a dict, else "output0", "output1", ...',
    )

    def settings(self, precision: str) -> dict[str, Any]:
        """What holds for artifacts of a precision: rtol and atol as numbers, where they are given."""
        return {
            "samples": self.samples,
            "reference": self.reference,
            **_for_precision(self, precision),
            "outputs": {name: _for_precision(given, precision) for name, given in self.outputs.items()},
        }


def _for_precision(given: OutputTolerance, precision: str) -> dict[str, float]:
    found = {"rtol": _of(given.rtol, precision), "atol": _of(given.atol, precision), "mismatch": given.mismatch}
    return {name: value for name, value in found.items() if value is not None}


def _of(tolerance: Mapping[Any, float], precision: str) -> float | None:
    return tolerance.get(precision)


class Recipe(Section):
    """A model, what it takes, and what is to be made of it."""

    model: ModelSection = Field(description="Where the model comes from.")
    dims: Dims = Field(default_factory=dict, description="Sizes that vary, by name.")
    inputs: Annotated[Inputs, Field(min_length=1)] = Field(description="The inputs of forward(), in its order.")
    trace: Trace = Field(default_factory=Trace, description="How the model becomes a graph.")
    compile: Compile = Field(default_factory=Compile, description="How the graph becomes engines.")
    export: Export = Field(default_factory=Export, description="How programs for Linux are written.")
    verify: Verify = Field(default_factory=Verify, description="How artifacts are compared with the source model.")
    targets: Annotated[dict[FolderName, Target], Field(min_length=1)] = Field(description="What to build, by name.")
    profiles: Annotated[tuple[Profile, ...], Strict(False)] = Field(
        default=(),
        description="More optimisation profiles beside [dims]: other min, opt and max, within the dims' own.",
    )

    def optimisation_profiles(self) -> list[dict[str, Dim]]:
        """The profiles to build with, each complete: [dims] first, then each of [[profiles]]."""
        others = [
            {name: _profiled(dim, profile.get(name)) for name, dim in self.dims.items()} for profile in self.profiles
        ]
        return [dict(self.dims), *others]

    @model_validator(mode="before")
    @classmethod
    def _shapes_split(cls, data: Any) -> Any:
        return with_split_shapes(data)

    @model_validator(mode="after")
    def _sections_agree(self) -> Recipe:
        settings = self.compile.model_dump(mode="json", exclude_unset=True)
        export = self.export.model_dump(mode="json", exclude_unset=True)
        mistakes = cross_checks(Parts(self.dims, self.inputs, settings, export, self.profiles, list(self.targets)))
        if mistakes:
            raise PydanticCustomError("trtbuild_sections", "{first}", {"first": mistakes[0].sentence})
        return self


def with_split_shapes(data: Any) -> Any:
    """The raw recipe with shape texts as lists; only where [dims] is known can a text be split."""
    if not isinstance(data, dict) or "inputs" not in data:
        return data
    dims = data.get("dims")
    names = [name for name in dims if isinstance(name, str)] if isinstance(dims, dict) else []
    return {**data, "inputs": with_shapes_split(data["inputs"], names)}


def _profiled(dim: Dim, given: ProfileRange | None) -> Dim:
    if given is None:
        return dim
    low, opt, high = given.within(dim)
    return Dim(min=low, opt=opt, max=high)
