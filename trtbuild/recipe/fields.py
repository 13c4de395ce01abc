"""The field types that several sections share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from keyword import iskeyword
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from trtbuild.digest import Json
from trtbuild.recipe.mistakes import invalid, shown
from trtbuild.recipe.positions import Path

INT64_MAX = 2**63 - 1
IDENTIFIER = "^[A-Za-z_][A-Za-z0-9_]*$"
FOLDER_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]*$"

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp16-mixed", "bf16-mixed"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

T = TypeVar("T")


class Section(BaseModel):
    """A table of the recipe: no unknown keys, no coercion, no change afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _identifier(value: str) -> str:
    if not re.fullmatch(IDENTIFIER, value) or iskeyword(value):
        raise invalid(
            f"The name `{value}` must be a Python identifier",
            hint="Letters, digits and underscores, no digit first, no keyword of Python.",
        )
    return value


def _folder_name(value: str) -> str:
    if not re.fullmatch(FOLDER_NAME, value):
        raise invalid(
            f"The target name `{value}` cannot name a folder everywhere",
            hint="Letters, digits, underscores and dashes, a letter or digit first: it names a folder under dist/.",
        )
    return value


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values as they are; a mistake where one is given twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise invalid("{here} is there twice", at=(index,), got=shown(value))
    return values


def list_of_one(value: Any) -> Any:
    """A single string as a list of it."""
    return [value] if isinstance(value, str) else value


def json_table(value: Any) -> dict[str, Json]:
    """A table of JSON values; a mistake names the first that is none."""
    if not isinstance(value, dict):
        raise invalid("{here} must be a table", got=shown(value))
    _check_json(value, ())
    return value


def _check_json(value: Any, at: Path) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_json(item, (*at, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(item, (*at, index))
    elif isinstance(value, int | float) and not is_finite(value):
        raise invalid("{here} must be finite and fit in 64 bits", at=at, got=shown(value))
    elif isinstance(value, datetime | date | time):
        raise invalid("{here} is a date or time, which has no JSON form", at=at, hint=f'Write the string "{value}".')
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise invalid("{here} must be a JSON value", at=at, got=type(value).__name__)


def is_finite(number: int | float) -> bool:
    """Whether a number is finite, and of an integer, fits in 64 bits: tomllib reads longer ones."""
    return abs(number) <= INT64_MAX if isinstance(number, int) else math.isfinite(number)


def _tolerance(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not is_finite(value) or value < 0:
        raise invalid("{here} must be a finite number of at least 0", got=shown(value))
    return dict.fromkeys(PRECISIONS, float(value))


NotNegative = Annotated[int, Field(ge=0, le=INT64_MAX)]
Positive = Annotated[int, Field(ge=1, le=INT64_MAX)]
Identifier = Annotated[
    str, AfterValidator(_identifier), WithJsonSchema({"type": "string", "pattern": IDENTIFIER, "minLength": 1})
]
FolderName = Annotated[
    str, AfterValidator(_folder_name), WithJsonSchema({"type": "string", "pattern": FOLDER_NAME, "minLength": 1})
]
JsonTable = Annotated[dict[str, Any], PlainValidator(json_table, json_schema_input_type=dict[str, Any])]
_NotNegativeNumber = Annotated[float, Field(ge=0)]
Tolerance = Annotated[
    dict[Precision, _NotNegativeNumber],
    BeforeValidator(_tolerance, json_schema_input_type=_NotNegativeNumber | dict[Precision, _NotNegativeNumber]),
]
