"""What can go wrong, said so that it can be put right: a sentence, the named facts, a hint.

Three origins, three exit codes: a stage that failed (1), an input or a machine at fault (2), a bug of ours (3).
Only a bug shows a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum

Facts = Sequence[tuple[str, str]]


class Exit(IntEnum):
    """Exit codes of the command."""

    DONE = 0
    STAGE_FAILED = 1
    AT_FAULT = 2
    BUG = 3


class TrtbuildError(Exception):
    """A sentence, named facts and a hint; the base of every error a user is meant to read."""

    exit_code: Exit = Exit.AT_FAULT

    def __init__(self, sentence: str, facts: Facts | Mapping[str, str] = (), hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.facts: list[tuple[str, str]] = list(facts.items() if isinstance(facts, Mapping) else facts)
        self.hint = hint

    def render(self) -> str:
        """The error as the terminal shows it, without colour."""
        return render(self.sentence, self.facts, self.hint)

    def as_json(self) -> dict[str, object]:
        """The error as `--json` shows it."""
        return {"error": self.sentence, "facts": dict(self.facts), "hint": self.hint}


class RecipeError(TrtbuildError):
    """Every mistake found in a recipe, at once."""

    def __init__(self, mistakes: Sequence[TrtbuildError]) -> None:
        super().__init__(mistakes[0].sentence, mistakes[0].facts, mistakes[0].hint)
        self.mistakes = list(mistakes)

    def render(self) -> str:
        return "\n".join(mistake.render() for mistake in self.mistakes)

    def as_json(self) -> dict[str, object]:
        return {"error": self.sentence, "mistakes": [mistake.as_json() for mistake in self.mistakes]}


class UsageError(TrtbuildError):
    """The command line asks for what cannot be."""


class MachineError(TrtbuildError):
    """This machine lacks something: a package, disk space, a permission."""


class StoreError(MachineError):
    """The store cannot be used as it is."""


class StageError(TrtbuildError):
    """A stage ran and failed."""

    exit_code = Exit.STAGE_FAILED


def render(sentence: str, facts: Iterable[tuple[str, str]], hint: str) -> str:
    """Lay out an error: the sentence, an aligned table of facts, the hint."""
    table = list(facts)
    width = max((len(name) for name, _ in table), default=0)
    lines = [f"error: {sentence}"]
    for name, value in table:
        first, *rest = value.splitlines() or [""]
        lines.append(f"  {name:<{width}}  {first}".rstrip())
        lines.extend(f"  {'':<{width}}  {line}".rstrip() for line in rest)
    if hint:
        first, *rest = hint.splitlines()
        lines.append(f"hint: {first}")
        lines.extend(f"      {line}" for line in rest)
    return "\n".join(lines)


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """A hint that names the nearest allowed word, or lists them all where none is near."""
    names = sorted(allowed)
    from difflib import get_close_matches

    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean `{near[0]}`?"
    return f"Allowed: {', '.join(names)}." if names else ""
