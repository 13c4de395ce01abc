"""A mistake in a recipe before its line is known: the path of the key, a sentence, facts, a hint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from trtbuild.recipe.positions import Path

LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at a key path."""

    path: Path
    sentence: str
    facts: tuple[tuple[str, str], ...] = ()
    hint: str = ""


def invalid(sentence: str, *, at: Path = (), hint: str = "", **facts: str) -> PydanticCustomError:
    """What a validator raises. `{here}` in the sentence becomes the key's name; `at` leads on to a key below it."""
    context = {"sentence": sentence, "at": at, "hint": hint, "facts": tuple(facts.items())}
    return PydanticCustomError("trtbuild", "{sentence}", context)


def table_name(path: Path) -> str:
    """A table as its header reads; with the place in an array where headers cannot say it."""
    return f"[{_dotted(path)}]" if all(isinstance(part, str) for part in path) else f"`{_dotted(path)}`"


def key_name(path: Path) -> str:
    """A key and its table: "`max` in [dims.batch]"."""
    length = max((index + 1 for index, part in enumerate(path) if isinstance(part, str)), default=0)
    table, key = path[: length - 1], path[length - 1 :]
    if not table:
        return f"`{_dotted(key)}`"
    return f"`{_dotted(key)}` in {table_name(table)}"


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{spelled(part)}" if text else spelled(part)
    return text


def spelled(key: str) -> str:
    """A key as TOML spells it."""
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def shown(value: Any) -> str:
    """A value as the recipe might spell it, shortened."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, int) and value.bit_length() > LONGEST_SHOWN:
        # Python refuses to spell out the longest ones.
        return hex(value) if value.bit_length() <= 4 * LONGEST_SHOWN - 12 else "a very large integer"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value) if not isinstance(value, Sequence) else "a list"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
