"""Small facts about the parts of a file, kept beside a stage's outputs, so that `explain` can say which part changed.

A file that has changed since is gone: what is not noted while it is read cannot be named later. So a trace notes, for
each file it read, a short digest per function, tensor or value. Nothing here is part of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

Insides = Mapping[str, Any]
"""{"rule": how the parts were found, "parts": {name: what is noted of it}}; other rules cannot be compared."""

_TENSORS = (".safetensors", ".pt", ".pth")
_DATA = (".json", ".toml")

# Beyond these a file's parts take longer to find than it is worth where only a few words are wanted.
_SOURCE_LIMIT = 1 << 18
_QUICK_LIMIT = 1 << 28
_SOURCES_LIMIT = 1 << 18


def insides_of(path: Path) -> Insides | None:
    """The parts of a file by its kind; None where it has none that can be told, or is not what its name says."""
    try:
        if path.suffix in _TENSORS:
            from trtbuild.insides import tensors

            return {"rule": tensors.RULE, "parts": tensors.parts_of(path)}
        if path.suffix not in (".py", *_DATA) or path.stat().st_size > _SOURCE_LIMIT:
            return None
        if path.suffix == ".py":
            from trtbuild.insides import python

            return {"rule": python.RULE, "parts": python.parts_of(path.read_bytes())}
        from trtbuild.insides import data

        return {"rule": data.RULE, "parts": data.parts_of(path)}
    except (OSError, ValueError, RecursionError, MemoryError):
        return None


def insides_of_reads(workspace: Path, seen: Mapping[str, Any]) -> dict[str, dict[str, Insides | None]]:
    """The insides of what a stage was seen to read, by part and name; the smallest files first, and not for long."""
    sized = []
    for name in seen.get("reads", seen.get("files", ())):
        path = workspace / name
        try:
            sized.append((path.stat().st_size, name, path))
        except OSError:
            continue
    reads: dict[str, Insides | None] = {}
    left = _SOURCES_LIMIT
    for size, name, path in sorted(sized):
        if path.suffix in _TENSORS:
            # Weights that are no input of the recipe's: as quick to tell as to hash.
            reads[name] = insides_of(path) if size <= _QUICK_LIMIT else None
        elif size <= left and (inside := insides_of(path)) is not None:
            reads[name] = inside
            left -= size
    found: dict[str, dict[str, Insides | None]] = {"reads": reads}
    if listings := seen.get("listings"):
        from trtbuild.reads import names_in

        listed = {folder: names_in(str(workspace), folder) for folder in listings}
        found["listings"] = {folder: names_inside(names) for folder, names in listed.items() if names is not None}
    return found


class Beside:
    """The insides of a file, found in a thread while something else is done: hashing leaves the interpreter free."""

    def __init__(self, path: Path | None) -> None:
        self._found: Future[Insides | None] | None = None
        if path is not None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1)
            self._found = self._pool.submit(insides_of, path)

    def result(self) -> Insides | None:
        """What was found, once it is."""
        if self._found is None:
            return None
        found = self._found.result()
        self._pool.shutdown()
        return found


@lru_cache(maxsize=256)
def insides_now(path: Path, digest: str, quick: bool) -> Insides | None:
    """The insides of a file with this content, asked for once; `quick`: not those of a very large one."""
    try:
        if quick and path.stat().st_size > _QUICK_LIMIT:
            return None
    except OSError:
        return None
    return insides_of(path)


def compared(before: Insides | None, after: Insides | None) -> list[str]:
    """What two states of a file differ in, in words; empty where that cannot be said."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping) or before.get("rule") != after.get("rule"):
        return []
    old, new = before.get("parts"), after.get("parts")
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return []
    kind = str(after.get("rule")).partition(" ")[0]
    if kind not in ("data", "names", "python", "tensors"):
        return []
    rule = import_module(f"trtbuild.insides.{kind}")
    try:
        found: list[str] = rule.compared(old, new) if after["rule"] == rule.RULE else []
        return found
    except (ValueError, TypeError, AttributeError):
        # A damaged note says nothing.
        return []


def names_inside(names: Iterable[str]) -> Insides | None:
    """The insides of a folder that was listed; None where it holds very many names."""
    from trtbuild.insides import names as rule

    kept = list(names)
    return {"rule": rule.RULE, "parts": dict.fromkeys(kept, "")} if len(kept) <= rule.LIMIT else None
