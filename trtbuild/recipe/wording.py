"""pydantic's findings in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trtbuild.errors import did_you_mean
from trtbuild.recipe.compile_settings import REFUSED, Compile
from trtbuild.recipe.mistakes import Mistake, key_name, shown, spelled, table_name
from trtbuild.recipe.model import Recipe
from trtbuild.recipe.positions import Path

_WANTED = {
    "int_type": "an integer",
    "string_type": "a string",
    "bool_type": "true or false",
    "float_type": "a number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "too_short": "filled: it is empty",
    "finite_number": "finite",
}
_NAMED_TABLES = {("dims",), ("inputs",), ("targets",)}
_LONGEST_HINT = 200
# Said elsewhere: by the key that the default is made from, and by the checks between sections.
_SAID_ELSEWHERE = {"default_factory_not_called", "trtbuild_sections"}


def mistakes_of(error: ValidationError, root: type[BaseModel] = Recipe) -> Iterator[Mistake]:
    """Every finding of a validation of `root` as a mistake."""
    for details in error.errors(include_url=False):
        # pydantic counts sound items only, so a list of nothing but mistakes is too short as well.
        uncounted = details["type"] == "too_short" and bool(details["input"])
        if details["type"] not in _SAID_ELSEWHERE and not uncounted:
            yield _mistake(details, root)


def _mistake(details: ErrorDetails, root: type[BaseModel]) -> Mistake:
    kind, path, value, context = details["type"], details["loc"], details["input"], details.get("ctx", {})
    if kind == "trtbuild":
        return _of_validator(path, context)
    if kind == "extra_forbidden":
        return _unknown_key(path, value, root)
    if kind == "missing":
        return _missing_key(path, root)
    if kind == "literal_error":
        return _not_among(path, value, re.findall(r"'([^']*)'", context["expected"]))
    got = (("got", shown(value)),)
    if kind in _WANTED:
        hint = f"Write [{path[0]}.NAME]." if path in _NAMED_TABLES else ""
        return Mistake(path, f"{key_name(path)} must be {_WANTED[kind]}", () if kind == "too_short" else got, hint)
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return Mistake(path, f"{key_name(path)} must be {bound}", got)
    return Mistake(path, f"{key_name(path)} is not valid: {details['msg']}", got)


def _of_validator(path: Path, context: Mapping[str, Any]) -> Mistake:
    if path and path[-1] == "[key]":
        path = path[:-1]
    path = (*path, *context["at"])
    return Mistake(path, context["sentence"].replace("{here}", key_name(path)), context["facts"], context["hint"])


def _unknown_key(path: Path, value: Any, root: type[BaseModel]) -> Mistake:
    key, table = str(path[-1]), path[:-1]
    model = _model_at(table, root)
    if model is Compile and key in REFUSED:
        reason, hint = REFUSED[key]
        return Mistake(path, f"`{key}` cannot be set in {table_name(table)}: {reason}", hint=hint)
    hint = did_you_mean(key, [field.alias or name for name, field in model.model_fields.items()] if model else [])
    if len(hint) > _LONGEST_HINT:
        hint = "`trtbuild schema` tells every key."
    if table:
        return Mistake(path, f"Unknown key `{spelled(key)}` in {table_name(table)}", hint=hint)
    return Mistake(
        path,
        f"Unknown table [{spelled(key)}]" if isinstance(value, dict) else f"Unknown key `{spelled(key)}`",
        hint=hint,
    )


def _missing_key(path: Path, root: type[BaseModel]) -> Mistake:
    key, table = str(path[-1]), path[:-1]
    if not table:
        named = {"inputs": "inputs.NAME", "targets": "targets.NAME"}.get(key, key)
        return Mistake(path, f"The recipe has no [{named}]", hint=f"Add the table [{named}].")
    model = _model_at(table, root)
    examples = model.model_fields[key].examples if model and key in model.model_fields else None
    hint = f"For example: {key} = {shown(examples[0])}" if examples else ""
    return Mistake(path, f"`{key}` is missing in {table_name(table)}", hint=hint)


def _not_among(path: Path, value: Any, allowed: list[str]) -> Mistake:
    facts = [("allowed", ", ".join(allowed))]
    near = did_you_mean(value, allowed) if isinstance(value, str) else ""
    hint = near if near.startswith("Did") else ""
    if path[-1] == "[key]":
        return Mistake(
            path[:-1], f"Unknown key `{spelled(str(path[-2]))}` in {table_name(path[:-2])}", tuple(facts), hint
        )
    facts.append(("got", shown(value)))
    return Mistake(path, f"{key_name(path)} is none of the allowed values", tuple(facts), hint)


def _model_at(path: Path, root: type[BaseModel]) -> type[BaseModel] | None:
    """The model that describes the table at a path."""
    kind: Any = root
    for part in path:
        model = _is_model(kind)
        if model is None:
            kind = _item_of(kind)
            continue
        fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        kind = fields.get(str(part))
    return _is_model(_unwrapped(kind))


def _is_model(kind: Any) -> type[BaseModel] | None:
    kind = _unwrapped(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _unwrapped(kind: Any) -> Any:
    """An annotation without Annotated and Optional."""
    while True:
        if hasattr(kind, "__metadata__"):
            kind = get_args(kind)[0]
        elif type(None) in get_args(kind):
            kind = next(arg for arg in get_args(kind) if arg is not type(None))
        else:
            return kind


def _item_of(kind: Any) -> Any:
    """What a dict or tuple annotation holds."""
    kind = _unwrapped(kind)
    args = [arg for arg in get_args(kind) if arg is not Ellipsis]
    return args[-1] if args else None
