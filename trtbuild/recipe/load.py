"""TOML text -> Recipe, with every mistake at once, each with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trtbuild.errors import RecipeError, TrtbuildError, UsageError, did_you_mean
from trtbuild.recipe.checks import cross_checks, parts_of
from trtbuild.recipe.mistakes import Mistake
from trtbuild.recipe.model import Recipe, with_split_shapes
from trtbuild.recipe.positions import line_of, positions
from trtbuild.recipe.wording import mistakes_of


def recipe_from_toml(path: Path) -> Recipe:
    """The recipe of a file; raises UsageError where it cannot be read, RecipeError where it is mistaken."""
    return recipe_from_text(_text_of(path), str(path))


def recipe_from_text(text: str, shown: str) -> Recipe:
    """The recipe of a TOML text; raises RecipeError with every mistake, each at `shown`:LINE, in line order."""
    data, lines = _parsed(text, shown)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        found = [*mistakes_of(error), *cross_checks(parts_of(with_split_shapes(data)))]
    raise RecipeError(_in_line_order(found, lines, shown))


def _in_line_order(
    found: Iterable[Mistake], lines: dict[tuple[str | int, ...], int], shown: str
) -> list[TrtbuildError]:
    placed = sorted(((line_of(mistake.path, lines), mistake) for mistake in found), key=lambda pair: pair[0])
    return [_located(m.sentence, shown, line, m.facts, m.hint) for line, m in placed]


def _located(
    sentence: str, shown: str, line: int, facts: Iterable[tuple[str, str]] = (), hint: str = ""
) -> TrtbuildError:
    return TrtbuildError(sentence, [("file", f"{shown}:{line}"), *facts], hint)


def _parsed(text: str, shown: str) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    try:
        return tomllib.loads(text), positions(text)
    except RecursionError:
        raise RecipeError([_located("The recipe is nested too deeply to be read", shown, 1)]) from None
    except ValueError as error:
        said = re.match(
            r"(?P<what>.*?)(?: \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\))?$", str(error)
        )
        what, line, column = said.group("what", "line", "column") if said else (str(error), None, None)
        facts = [("column", column)] if column else []
        place = int(line) if line else text.rstrip().count("\n") + 1
        raise RecipeError([_located(f"The recipe is not valid TOML: {what}", shown, place, facts)]) from None


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"There is no recipe `{path}`", hint=_near_recipe(path)) from None
    except IsADirectoryError:
        raise UsageError(f"`{path}` is a folder, not a recipe", hint="Name one of the .toml files in it.") from None
    except OSError as error:
        raise UsageError(f"The recipe `{path}` cannot be read: {error.strerror}") from None
    try:
        # Editors on Windows put a byte order mark first, which tomllib does not take.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        mistake = _located("The recipe is not UTF-8 text", str(path), line, [("byte", hex(data[error.start]))])
        mistake.hint = "Save it as UTF-8."
        raise RecipeError([mistake]) from None


def _near_recipe(path: Path) -> str:
    try:
        beside = [other.name for other in path.parent.glob("*.toml")]
    except OSError:
        return ""
    hint = did_you_mean(path.name, beside)
    return hint if hint.startswith("Did") else ""
