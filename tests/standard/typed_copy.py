"""A copy of the package whose code knows TensorRT's types, line for line as the original."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

MODULE = "_trt"
_FUTURE = "from __future__ import annotations\n"

Edit = tuple[int, int, str]


class UndeclaredError(ValueError):
    """The table names what the source has not, or the source what the table has not."""


def typed(source: str, types: Mapping[str, str]) -> str:
    """Source with declared types in place of Any, and the module itself in place of values called `trt`.

    UndeclaredError where a declaration has no place in the source.
    """
    if _FUTURE not in source:
        raise UndeclaredError("the source does not import annotations from __future__")
    tree = ast.parse(source)
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    places = dict(_places(tree, ()))
    if missing := sorted(set(types) - set(places)):
        raise UndeclaredError(f"declared and not there: {', '.join(missing)}")
    edits: list[Edit] = []
    for name, text in types.items():
        place = places[name]
        if isinstance(place, ast.arg) and place.annotation is None:
            edits.append((*_span(place, starts), f"{place.arg}: {text}"))
        else:
            annotation = place.annotation if isinstance(place, ast.arg) else place
            assert annotation is not None
            edits.append((*_span(annotation, starts), text))
    edits += [(*_span(node, starts), MODULE) for node in _modules(tree)]
    data = source.encode()
    for start, end, text in sorted(edits, reverse=True):
        data = data[:start] + text.encode() + data[end:]
    return data.decode().replace(_FUTURE, f"{_FUTURE.rstrip()}; import tensorrt as {MODULE}\n", 1)


def _places(node: ast.AST, path: tuple[str, ...]) -> Iterator[tuple[str, ast.expr | ast.arg]]:
    """What may be declared, by its name: parameters, results, annotated variables."""
    for child in ast.iter_child_nodes(node):
        inner = path
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = (*path, child.name)
        if isinstance(child, ast.FunctionDef):
            for arg in (*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs):
                yield ".".join((*inner, arg.arg)), arg
            if child.returns is not None:
                yield ".".join((*inner, "return")), child.returns
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield ".".join((*path, child.target.id)), child.annotation
        yield from _places(child, inner)


def _modules(node: ast.AST) -> Iterator[ast.expr]:
    """The outermost expressions that are TensorRT's module: `trt`, `self.trt`, `self._engine.trt`."""
    for child in ast.iter_child_nodes(node):
        name = child.id if isinstance(child, ast.Name) else child.attr if isinstance(child, ast.Attribute) else ""
        if isinstance(child, ast.Name | ast.Attribute) and name == "trt" and isinstance(child.ctx, ast.Load):
            yield child
        else:
            yield from _modules(child)


def _span(node: ast.expr | ast.arg, starts: list[int]) -> tuple[int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def write_typed(package: Path, folder: Path, table: Mapping[str, Mapping[str, str]]) -> list[Path]:
    """Copy a package's modules into a folder, those of the table typed. Gives the paths of the latter."""
    done = []
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        target = folder / package.name / name
        target.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text()
        if name in table:
            done.append(target)
            try:
                text = typed(text, table[name])
            except UndeclaredError as error:
                raise UndeclaredError(f"{name}: {error}") from None
        target.write_text(text)
    if len(done) != len(table):
        raise UndeclaredError("declared files that are not there")
    return done


def uncovered(package: Path, table: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Files of a package that take something of TensorRT's module, and are not in the table."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        tree = ast.parse(file.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        asked = [
            node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and [*_modules(node)] == [node.value]
        ]
        found[file.relative_to(package).as_posix()] = bool(asked) or not names.isdisjoint({"tensorrt", "tensorrt_rtx"})
    return [name for name, takes in found.items() if takes and name not in table]
