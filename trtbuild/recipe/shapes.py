"""Shapes: lists of sizes and dim names, and trtexec's spelling of them, "batchx3x224x224"."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, Strict

from trtbuild.recipe.fields import IDENTIFIER, INT64_MAX
from trtbuild.recipe.mistakes import invalid, shown

_SIZE = re.compile(r"-?[0-9]+(?=x|$)")
_WORD = re.compile(r"[^x]+(?=x|$)")

# Undeclared words in a split, and its pieces; fewer undeclared words make a better split.
_Split = tuple[int, list[int | str]]


def split_shape(text: str, dims: Collection[str]) -> list[int | str] | None:
    """The sizes and names that trtexec's spelling joins with `x`; None where it is not of that form.

    Dim names may hold an `x` themselves, so declared names are tried before the next `x` is taken as the end of a word,
    the longest first.
    """
    by_length = sorted(dims, key=lambda name: (-len(name), name))
    best: dict[int, _Split | None] = {len(text) + 1: (0, [])}
    for start in range(len(text), -1, -1):
        best[start] = _best_from(text, start, by_length, best)
    found = best[0]
    return found[1] if found else None


def _best_from(text: str, start: int, dims: list[str], best: Mapping[int, _Split | None]) -> _Split | None:
    found: _Split | None = None
    for piece, end, undeclared in _pieces(text, start, dims):
        rest = best[end + 1]
        if rest and (found is None or undeclared + rest[0] < found[0]):
            found = (undeclared + rest[0], [piece, *rest[1]])
    return found


def _pieces(text: str, start: int, dims: list[str]) -> list[tuple[int | str, int, int]]:
    pieces: list[tuple[int | str, int, int]] = []
    for name in dims:
        end = start + len(name)
        if name and text.startswith(name, start) and text[end : end + 1] in ("", "x"):
            pieces.append((name, end, 0))
    if size := _SIZE.match(text, start):
        pieces.append((int(size[0]), size.end(), 0))
    elif word := _WORD.match(text, start):
        pieces.append((word[0], word.end(), 1))
    return pieces


def with_shapes_split(inputs: Any, dims: Collection[str]) -> Any:
    """The raw [inputs] with every shape text as a list, where it can be split."""
    if not isinstance(inputs, Mapping):
        return inputs
    return {name: _input_split(value, dims) for name, value in inputs.items()}


def _input_split(value: Any, dims: Collection[str]) -> Any:
    if not isinstance(value, Mapping):
        return value
    result = dict(value)
    if isinstance(result.get("shape"), str):
        result["shape"] = split_shape(result["shape"], dims) or result["shape"]
    for key in ("tuple", "list"):
        if isinstance(result.get(key), list | tuple):
            result[key] = [_input_split(item, dims) for item in result[key]]
    if "dict" in result:
        result["dict"] = with_shapes_split(result["dict"], dims)
    return result


def _text_as_list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pieces = split_shape(value, ())
    if pieces is None:
        raise invalid(
            "{here} is no shape",
            got=shown(value),
            hint='Write ["batch", 3, 224, 224], or trtexec\'s "batchx3x224x224".',
        )
    return pieces


def _size_or_name(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise invalid("{here} must be an integer or the name of a dim", got=shown(value))
    if isinstance(value, int):
        if not 1 <= value <= INT64_MAX:
            raise invalid(
                "{here} must be at least 1" if value < 1 else "{here} is too large",
                got=shown(value),
                hint="A size that varies gets a name, declared as [dims.NAME] with its min and max."
                if value < 1
                else "",
            )
    elif not re.fullmatch(IDENTIFIER, value):
        hint = f"Write {value} without quotes." if value.isdecimal() else "Names are declared as [dims.NAME]."
        raise invalid("{here} must be an integer or the name of a dim", got=shown(value), hint=hint)
    return value


_Size = Annotated[int, Field(ge=1, le=INT64_MAX)]
_Name = Annotated[str, Field(pattern=IDENTIFIER)]
_SizeOrName = Annotated[int | str, PlainValidator(_size_or_name, json_schema_input_type=_Size | _Name)]
Shape = Annotated[
    tuple[_SizeOrName, ...],
    Strict(False),
    BeforeValidator(_text_as_list, json_schema_input_type=str | list[_Size | _Name]),
]
