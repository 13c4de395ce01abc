"""The parts of a Python file: functions, classes, and what stands outside of them, without comments and places."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence

from trtbuild.digest import digest_bytes

# Python's syntax trees, and so their digests, differ from version to version.
RULE = f"python 1 {sys.version_info.major}.{sys.version_info.minor}"

_OUTSIDE = "statements outside of functions and classes"
_DOCSTRINGS = "docstrings"
_SHOWN = 5


def parts_of(source: bytes) -> dict[str, str]:
    """{part: "<place> <digest>"}; the place is that among the parts. ValueError where the source is no Python."""
    try:
        module = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"This is no Python: {error}.") from error
    docstrings = list(_take_docstrings(module))
    found: dict[str, list[str]] = {}
    _parts("", module.body, _OUTSIDE, found)
    if docstrings:
        found[_DOCSTRINGS] = docstrings
    return {name: f"{place} {_short(texts)}" for place, (name, texts) in enumerate(found.items())}


def _parts(prefix: str, body: Sequence[ast.stmt], own: str, found: dict[str, list[str]]) -> None:
    rest = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # The name is the part's: a function that is only renamed has an equal digest.
            name, node.name = node.name, ""
            found.setdefault(f"{prefix}function {name}", []).append(ast.dump(node))
        elif isinstance(node, ast.ClassDef):
            name, inner, node.name, node.body = node.name, node.body, "", []
            part = f"{prefix}class {name}"
            found.setdefault(part, []).append(ast.dump(node))
            _parts(f"{part}, ", inner, part, found)
        else:
            rest.append(ast.dump(node))
    if rest:
        found.setdefault(own, []).extend(rest)


def _take_docstrings(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                yield first.value.value
                del node.body[0]


def _short(texts: Sequence[str]) -> str:
    return digest_bytes("\n".join(texts).encode("utf-8", "surrogatepass"))[:16]


def compared(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The parts that differ, in words."""
    old, new = ({name: text.partition(" ")[2] for name, text in side.items()} for side in (before, after))
    gone = [name for name in _in_order(before) if name not in new]
    come = [name for name in _in_order(after) if name not in old]
    said = [name for name in _in_order(after) if name in old and old[name] != new[name]]
    for name in list(gone):
        same = next((other for other in come if new[other] == old[name] and _above(other) == _above(name)), None)
        if same is not None:
            said.append(f"{name} renamed {same.removeprefix(_above(same))}")
            gone.remove(name)
            come.remove(same)
    said += [f"{name} added" for name in _outermost(come)] + [f"{name} removed" for name in _outermost(gone)]
    if not said:
        common = [[name for name in _in_order(side) if name in old and name in new] for side in (before, after)]
        return ["only the order of its parts" if common[0] != common[1] else "only comments or layout"]
    more = len(said) - _SHOWN
    return [*said[:_SHOWN], *([f"{more} more parts"] if more > 0 else [])]


def _in_order(parts: Mapping[str, str]) -> list[str]:
    return sorted(parts, key=lambda name: int(parts[name].partition(" ")[0]))


def _above(name: str) -> str:
    """The part that a part lies in, with the comma after it."""
    head, comma, _ = name.rpartition(", ")
    return head + comma


def _outermost(names: Sequence[str]) -> list[str]:
    """Names without those that lie in another of them."""
    return [name for name in names if not any(name.startswith(f"{other}, ") for other in names)]
