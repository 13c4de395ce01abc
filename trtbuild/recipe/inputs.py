"""Dims, and the inputs of the model that name them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from trtbuild.recipe.fields import Identifier, Positive, Section, is_finite
from trtbuild.recipe.mistakes import invalid, shown
from trtbuild.recipe.positions import Path
from trtbuild.recipe.shapes import Shape

DType = Literal["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
# What integers can hold, as [low, high).
INTEGER_SPAN = {
    "int64": (-(2**63), 2**63),
    "int32": (-(2**31), 2**31),
    "int16": (-(2**15), 2**15),
    "int8": (-(2**7), 2**7),
    "uint8": (0, 2**8),
}
Number = int | float
KINDS = ("shape", "tuple", "list", "dict")


class Dim(Section):
    """A named size; every input that names it shares it."""

    min: Positive = Field(default=1, description="The least size.", examples=[1])
    max: Positive = Field(description="The greatest size.", examples=[32])
    opt: Positive = Field(
        # `max` is absent where it is itself mistaken; newer pydantic does not call this then, older does.
        default_factory=lambda data: data.get("max", 1),
        description="The size that the engine is tuned for; `max` where absent.",
        examples=[8],
    )

    @model_validator(mode="after")
    def _in_order(self) -> Dim:
        if not self.min <= self.opt <= self.max:
            raise invalid(
                f"{{here}} is out of order: min {self.min}, opt {self.opt}, max {self.max}",
                at=("max",) if self.min > self.max else ("opt",),
                hint="It must be min <= opt <= max.",
            )
        return self


class ProfileRange(Section):
    """What one profile says of a dim; what it leaves out is the dim's own, but `opt`, which is the profile's `max`."""

    min: Positive | None = Field(default=None, description="The least size; the dim's own where absent.", examples=[1])
    opt: Positive | None = Field(default=None, description="The size tuned for; this `max` where absent.", examples=[1])
    max: Positive | None = Field(
        default=None, description="The greatest size; the dim's own where absent.", examples=[4]
    )

    def within(self, dim: Dim) -> tuple[int, int, int]:
        """min, opt and max with the dim's own filled in."""
        low = dim.min if self.min is None else self.min
        high = dim.max if self.max is None else self.max
        if self.opt is not None:
            return low, self.opt, high
        return low, dim.opt if self.max is None else high, high


def _number_range(value: Any) -> tuple[Number, Number]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise invalid("{here} must be a list of two numbers", got=shown(value), hint="Write [low, high].")
    for index, number in enumerate(value):
        if isinstance(number, bool) or not isinstance(number, int | float) or not is_finite(number):
            raise invalid("{here} must be a finite number", at=(index,), got=shown(number))
    low, high = value
    if not low < high:
        raise invalid(
            f"{{here}} must rise: {shown(low)} is not below {shown(high)}", got=shown(value), hint="Write [low, high]."
        )
    return low, high


Range = Annotated[tuple[Number, Number], BeforeValidator(_number_range, json_schema_input_type=list[float])]
_Inputs = Annotated[tuple["Input", ...], Strict(False), Field(min_length=1)]


class Input(Section):
    """A tensor, or a tuple, list or dict of inputs."""

    shape: Shape | None = Field(
        default=None,
        description='Sizes and names of [dims], in order; trtexec\'s "batchx3x224x224" is read too.',
        examples=[["batch", 3, 224, 224]],
    )
    tuple_: _Inputs | None = Field(default=None, alias="tuple", description="The inputs of a tuple.")
    list_: _Inputs | None = Field(default=None, alias="list", description="The inputs of a list.")
    dict_: Annotated[dict[str, Input], Field(min_length=1)] | None = Field(
        default=None, alias="dict", description="The inputs of a dict, by name."
    )
    dtype: DType = Field(default="float32", description="The element type.", examples=["float32"])
    format: Literal["contiguous", "channels_last"] = Field(
        default="contiguous", description="The memory layout; channels_last needs 4 dims."
    )
    range: Range | None = Field(
        default=None,
        description="Between which numbers example values are drawn; of integers the second is left out.",
        examples=[[0.0, 1.0]],
        json_schema_extra={"minItems": 2, "maxItems": 2},
    )
    keyword: bool = Field(default=False, description="Pass it by keyword; comes after all that are not.")

    def kinds(self) -> list[str]:
        """Which of shape, tuple, list, dict are given; one, in a sound recipe."""
        values = (self.shape, self.tuple_, self.list_, self.dict_)
        return [kind for kind, value in zip(KINDS, values, strict=True) if value is not None]

    def children(self) -> Iterator[tuple[Path, Input]]:
        """The inputs directly inside, each with its path from here."""
        for index, child in enumerate(self.tuple_ or ()):
            yield ("tuple", index), child
        for index, child in enumerate(self.list_ or ()):
            yield ("list", index), child
        for name, child in (self.dict_ or {}).items():
            yield ("dict", name), child

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Input]]:
        """This input and all inside it, each with its path; in the order in which torch flattens lists and tuples."""
        yield path, self
        for step, child in self.children():
            yield from child.walk((*path, *step))

    @model_validator(mode="after")
    def _one_kind(self) -> Input:
        kinds = self.kinds()
        if len(kinds) != 1:
            found = " and ".join(f"`{kind}`" for kind in kinds) or "none"
            raise invalid(
                f"{{here}} must have exactly one of `shape`, `tuple`, `list` and `dict`; it has {found}",
                at=(kinds[1],) if kinds else (),
                hint="" if kinds else 'For example: shape = ["batch", 3, 224, 224]',
            )
        if kinds != ["shape"]:
            for key in ("dtype", "format", "range"):
                if key in self.model_fields_set:
                    raise invalid(
                        "{here} describes a tensor", at=(key,), hint=f"Move it to the inputs inside `{kinds[0]}`."
                    )
        return self

    @model_validator(mode="after")
    def _layout_fits(self) -> Input:
        if self.shape is not None and self.format == "channels_last" and len(self.shape) != 4:
            raise invalid(
                f"{{here}} is channels_last, which needs 4 dims; the shape has {len(self.shape)}", at=("format",)
            )
        return self

    @model_validator(mode="after")
    def _range_fits(self) -> Input:
        if self.range is None:
            return self
        if self.dtype == "bool":
            raise invalid("{here} has no meaning for bool", at=("range",), hint="Remove it: both values are drawn.")
        if span := INTEGER_SPAN.get(self.dtype):
            low, high = self.range
            if not isinstance(low, int) or not isinstance(high, int):
                raise invalid(
                    f"{{here}} must be of integers, since dtype is {self.dtype}", at=("range",), got=shown(self.range)
                )
            if low < span[0] or high > span[1]:
                raise invalid(
                    f"{{here}} goes beyond {self.dtype}", at=("range",), allowed=shown(span), got=shown(self.range)
                )
        return self


Inputs = dict[Identifier, Input]
Dims = dict[Identifier, Dim]
