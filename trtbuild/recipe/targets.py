"""A target: for which machines, in which precisions, as which files."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, Strict, ValidationInfo

from trtbuild.recipe.fields import Precision, Section, is_finite, list_of_one, unique
from trtbuild.recipe.mistakes import invalid, shown

RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
# TensorRT-RTX's own default; 7.5 is built on request only.
RTX_DEFAULT = ("8.0", "8.6", "8.9", "12.0")

Format = Literal["engine", "exported_program", "torchscript", "aot_inductor", "onnx"]


def _capability(value: Any, info: ValidationInfo) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        hint = f'Write "{float(value)}".' if is_finite(value) else ""
        raise invalid("{here} must be a string", got=shown(value), hint=hint)
    if not isinstance(value, str) or not re.fullmatch(r"[1-9][0-9]*\.[0-9]", value):
        raise invalid("{here} is no compute capability", got=shown(value), hint='For example: "8.9".')
    # `runtime` is absent here where it is itself mistaken.
    if info.data.get("runtime") == "tensorrt-rtx" and value not in RTX_CAPABILITIES:
        raise invalid(
            f"{{here}}: TensorRT-RTX does not build for {value}", allowed=", ".join(RTX_CAPABILITIES), got=shown(value)
        )
    return value


def _device(value: str, info: ValidationInfo) -> str:
    # `runtime` is absent here where it is itself mistaken.
    if value == "cpu" and info.data.get("runtime", "torch") != "torch":
        raise invalid(
            "{here}: TensorRT runs on GPUs only",
            got=shown(value),
            hint='runtime = "torch" makes artifacts without TensorRT, for CPUs as well.',
        )
    return value


def _ascending(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(values), key=lambda value: tuple(map(int, value.split(".")))))


def _capability_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _capabilities_absent(data: dict[str, Any]) -> tuple[str, ...]:
    return RTX_DEFAULT if data.get("runtime") == "tensorrt-rtx" else ()


_CapabilityText = Annotated[str, Field(pattern=r"^[1-9][0-9]*\.[0-9]$")]
_Capabilities = Annotated[
    tuple[Annotated[str, PlainValidator(_capability)], ...],
    Strict(False),
    Field(min_length=1),
    AfterValidator(_ascending),
    BeforeValidator(
        _capability_list,
        json_schema_input_type=_CapabilityText | Annotated[list[_CapabilityText], Field(min_length=1)],
    ),
]
_Precisions = Annotated[
    tuple[Precision, ...],
    Strict(False),
    Field(min_length=1),
    AfterValidator(unique),
    BeforeValidator(list_of_one, json_schema_input_type=Precision | Annotated[list[Precision], Field(min_length=1)]),
]
_Formats = Annotated[tuple[Format, ...], Strict(False), Field(min_length=1), AfterValidator(unique)]


class Target(Section):
    """One column of the matrix: its precisions and formats are built for its platform, runtime and GPUs."""

    platform: Literal["linux-x86_64", "windows-x86_64"] = Field(
        description="Where the artifact will run.", examples=["linux-x86_64"]
    )
    runtime: Literal["tensorrt-rtx", "tensorrt", "torch", "null"] = Field(
        default="tensorrt-rtx",
        description='The TensorRT that will run the engines; "torch" is PyTorch alone, without any. '
        '"null" builds nothing: each stage writes down what it was given, to test and measure trtbuild itself.',
    )
    device: Annotated[Literal["cuda", "cpu"], AfterValidator(_device)] = Field(
        default="cuda", description='Where the artifact runs; "cpu" is for runtime = "torch" alone.'
    )
    compute_capability: _Capabilities = Field(
        default_factory=_capabilities_absent,
        description=f"The GPUs to build for; for tensorrt-rtx {', '.join(RTX_DEFAULT)} where absent.",
        examples=[list(RTX_DEFAULT)],
    )
    precision: _Precisions = Field(
        default=("fp32",),
        description="The number formats to build in; a list builds each.",
        examples=[["fp32", "fp16"]],
    )
    formats: _Formats = Field(
        description="The files to write.",
        examples=[["engine", "exported_program"]],
        json_schema_extra={"uniqueItems": True},
    )
