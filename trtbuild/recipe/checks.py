"""What no section can check alone: dims against inputs, profiles against dims, settings against each other.

Each check takes what is sound of a recipe and lets the rest be, so that one mistake hides no other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from trtbuild.errors import did_you_mean
from trtbuild.recipe.export_settings import ABOUT_RETRACING
from trtbuild.recipe.inputs import Dim, Input, ProfileRange
from trtbuild.recipe.mistakes import Mistake

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a recipe that the checks are about; None stands for one that is mistaken in itself."""

    dims: Mapping[str, Dim | None]
    inputs: Mapping[str, Input | None]
    compile: Mapping[str, Any]
    export: Mapping[str, Any]
    profiles: Sequence[Mapping[str, ProfileRange | None]]
    targets: Sequence[str]


def parts_of(data: Mapping[str, Any]) -> Parts:
    """What is sound of a raw recipe."""
    profiles = data.get("profiles")
    return Parts(
        dims=_sound(data.get("dims"), Dim),
        inputs=_sound(data.get("inputs"), Input, spare=("dtype", "format", "range")),
        compile=_table(data.get("compile")),
        export=_table(data.get("export")),
        profiles=[_sound(profile, ProfileRange) for profile in profiles] if isinstance(profiles, list) else [],
        targets=list(_table(data.get("targets"))),
    )


def cross_checks(parts: Parts) -> list[Mistake]:
    """The mistakes between the parts of a recipe."""
    checks = (_dim_names, _unused_dims, _keywords, _profiles, _settings, _export, _target_names)
    return [mistake for check in checks for mistake in check(parts)]


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sound(raw: Any, kind: type[M], spare: Collection[str] = ()) -> dict[str, M | None]:
    """What is sound of a table of `kind`; an entry is taken without the mistaken ones of its `spare` keys."""
    result: dict[str, M | None] = {}
    for name, value in _table(raw).items():
        try:
            result[name] = kind.model_validate(value)
        except ValidationError as error:
            without = _without_mistaken(value, error, kind, spare)
            result[name] = _sound({name: without}, kind, spare)[name] if without is not None else None
    return result


def _without_mistaken(value: Any, error: ValidationError, kind: type[BaseModel], spare: Collection[str]) -> Any:
    """An entry without its mistaken spare and unknown keys; None where it has none to take out."""
    known = {field.alias or name for name, field in kind.model_fields.items()}
    paths = [(*found["loc"], *found.get("ctx", {}).get("at", ())) for found in error.errors(include_url=False)]
    mistaken = {path[0] for path in paths if path and (path[0] in spare or path[0] not in known)}
    return {key: item for key, item in value.items() if key not in mistaken} if spare and mistaken else None


def _dim_names(parts: Parts) -> Iterator[Mistake]:
    for name, top in parts.inputs.items():
        for path, tensor in top.walk(("inputs", name)) if top else ():
            for index, size in enumerate(tensor.shape or ()):
                if isinstance(size, str) and size not in parts.dims:
                    hint = did_you_mean(size, parts.dims) or f"Declare it: [dims.{size}] with min, opt and max."
                    yield Mistake((*path, "shape", index), f"The dim `{size}` is not declared in [dims]", hint=hint)


def _unused_dims(parts: Parts) -> Iterator[Mistake]:
    # An input that is mistaken in itself may name any of them.
    if not parts.inputs or None in parts.inputs.values():
        return
    used = {size for top in parts.inputs.values() if top for _, tensor in top.walk() for size in tensor.shape or ()}
    # A misspelt name is told once, where it is misspelt.
    meant = {did_you_mean(str(size), parts.dims) for size in used if size not in parts.dims}
    for name in parts.dims:
        if name not in used and f"Did you mean `{name}`?" not in meant:
            yield Mistake(("dims", name), f"No input uses the dim `{name}`", hint="Name it in a shape, or remove it.")


def _keywords(parts: Parts) -> Iterator[Mistake]:
    keyword = ""
    for name, top in parts.inputs.items():
        if top is None:
            continue
        if top.keyword:
            keyword = name
        elif keyword:
            yield Mistake(
                ("inputs", name),
                f"The positional input `{name}` comes after the keyword input `{keyword}`",
                hint="Move it up, or give it keyword = true.",
            )
        for path, inner in top.walk(("inputs", name)):
            if inner is not top and "keyword" in inner.model_fields_set:
                hint = f"Set it in [inputs.{name}], or remove it."
                yield Mistake((*path, "keyword"), "`keyword` is for an entire input", hint=hint)


def _profiles(parts: Parts) -> Iterator[Mistake]:
    for index, profile in enumerate(parts.profiles):
        for name, given in profile.items():
            path = ("profiles", index, name)
            if name not in parts.dims:
                hint = did_you_mean(name, parts.dims)
                yield Mistake(path, f"Profile {index + 1} names the dim `{name}`, which is not in [dims]", hint=hint)
            elif (dim := parts.dims[name]) and given:
                yield from _profile_range(path, index + 1, name, dim, given)


def _profile_range(
    path: tuple[str, int, str], number: int, name: str, dim: Dim, given: ProfileRange
) -> Iterator[Mistake]:
    low, opt, high = given.within(dim)
    said = f"Profile {number} has the dim `{name}` with min {low}, opt {opt}, max {high}"
    if low > high:
        yield Mistake(
            (*path, "max" if given.max is not None else "min"), f"{said}", hint="It must be min <= opt <= max."
        )
    elif not low <= opt <= high:
        yield Mistake((*path, "opt"), said, hint="It must be min <= opt <= max.")
    elif low < dim.min or high > dim.max:
        key = "min" if low < dim.min else "max"
        fact = (("allowed", f"{dim.min} to {dim.max}"),)
        yield Mistake(
            (*path, key), f"{said}, beyond [dims.{name}]", fact, f"Widen [dims.{name}], or narrow the profile."
        )


def _settings(parts: Parts) -> Iterator[Mistake]:
    given = parts.compile
    if "opset" in given and given.get("converter", "torch-tensorrt") == "torch-tensorrt":
        hint = 'Add converter = "onnx", or remove `opset`.'
        yield Mistake(("compile", "opset"), '`opset` in [compile] is for converter = "onnx" only', hint=hint)
    if given.get("ir") == "ts" and given.get("converter", "torch-tensorrt") != "torch-tensorrt":
        hint = 'Remove `ir`, or set converter = "torch-tensorrt".'
        yield Mistake(("compile", "ir"), '`ir = "ts"` in [compile] is a frontend of Torch-TensorRT', hint=hint)
    if given.get("torch_executed_ops") and given.get("require_full_compilation") is True:
        sentence = "`torch_executed_ops` in [compile] contradicts require_full_compilation = true"
        yield Mistake(("compile", "torch_executed_ops"), sentence, hint="Remove one of them.")
    if given.get("refit_identical_engine_weights") is True and given.get("immutable_weights", True) is True:
        sentence = "`refit_identical_engine_weights` in [compile] needs weights that can be refitted"
        yield Mistake(("compile", "refit_identical_engine_weights"), sentence, hint="Add immutable_weights = false.")


def _export(parts: Parts) -> Iterator[Mistake]:
    if parts.export.get("retrace", False) is not False:
        return
    for name in ABOUT_RETRACING:
        if name in parts.export:
            sentence = f"`{name}` in [export] is about tracing the program once more"
            yield Mistake(("export", name), sentence, hint=f"Add retrace = true, or remove `{name}`.")


def _target_names(parts: Parts) -> Iterator[Mistake]:
    seen: dict[str, str] = {}
    for name in parts.targets:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            sentence = f"The targets `{other}` and `{name}` would share a folder where case does not count"
            yield Mistake(("targets", name), sentence, hint="Rename one of them.")
