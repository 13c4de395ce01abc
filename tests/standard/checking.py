"""mypy over code that knows TensorRT's types: what is wrong, and how many names and calls were looked at."""

from __future__ import annotations

import ast
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mypy import build
from mypy.errors import CompileError
from mypy.modulefinder import BuildSource
from mypy.nodes import CallExpr, Expression, MemberExpr, MypyFile, RefExpr, TypeInfo
from mypy.options import Options
from mypy.traverser import NameAndMemberCollector
from mypy.types import AnyType, CallableType, Instance, Overloaded, Type, get_proper_type

from tests.standard.declared import Absent
from tests.standard.typed_copy import write_typed

# Methods are replaced on purpose where a builder is patched; comments for Any are of no use where there is none.
_ASIDE = ("method-assign", "unused-ignore")
_REPLACED = re.compile(r'variable has type (?:overloaded function|"def |"Callable)')
# What objects of torch and ONNX are asked for too, whose types mypy is not told.
_OTHERS = frozenset({"clone", "dtype", "itemsize", "min", "name", "node", "op", "shape", "type"})
_ERROR = re.compile(r"(?P<file>.+?):(?P<line>\d+): error: (?P<text>.+?)(?:  \[(?P<code>[\w-]+)\])?$")


@dataclass(frozen=True)
class Problem:
    """Where code and TensorRT disagree."""

    file: str
    line: int
    function: str
    text: str


@dataclass
class Outcome:
    """`names` were looked at, as "ICudaEngine.get_tensor_name", in `uses` places, `calls` of them calls.

    `unsigned` are called too, and have no signature to check it by. `absent` was expected to be absent, and is.
    """

    problems: list[Problem] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    uses: int = 0
    calls: int = 0
    unsigned: set[str] = field(default_factory=set)


def check(
    package: Path, stubs: str, table: Mapping[str, Mapping[str, str]], absent: tuple[Absent, ...] = ()
) -> Outcome:
    """Check the files of a package that the table names against stubs.

    Errors at a name of `absent`, in its function, are expected. One that is expected and does not come is a problem,
    where the code does not ask whether the name is there.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tensorrt").mkdir()
        (folder / "tensorrt/__init__.pyi").write_text(stubs)
        files = write_typed(package, folder, table)
        options = Options()
        options.python_version = (3, 11)
        options.incremental = False
        options.cache_dir = os.devnull
        options.export_types = True
        options.preserve_asts = True
        options.ignore_missing_imports = True
        options.follow_imports = "silent"
        options.no_site_packages = True
        options.python_executable = None
        options.check_untyped_defs = True
        options.strict_optional = True
        options.disable_error_code = list(_ASIDE)
        options.process_error_codes(error_callback=lambda text: None)
        options.mypy_path = [str(folder)]
        sources = [BuildSource(str(file), _module(file, folder), None) for file in files]
        sources.append(BuildSource(str(folder / "tensorrt/__init__.pyi"), "tensorrt", None))
        try:
            result = build.build(sources, options)
            messages, types = result.errors, result.types
        except CompileError as error:
            messages, types = error.messages, {}
        outcome = Outcome()
        if types:
            known = _members(result.files["tensorrt"]) - _OTHERS
            for file in files:
                shown = file.relative_to(folder / package.name).as_posix()
                _look(outcome, shown, _members_in(result.files[_module(file, folder)]), types, known)
        _calls(outcome, types)
        _sort(outcome, messages, folder / package.name, absent)
        return outcome


def _module(file: Path, folder: Path) -> str:
    return ".".join(file.relative_to(folder).with_suffix("").parts)


def _members(stubs: MypyFile) -> set[str]:
    """The names of all that TensorRT's objects have, but for what Python gives to any."""
    classes = [symbol.node for symbol in stubs.names.values() if isinstance(symbol.node, TypeInfo)]
    return {name for found in classes if found.module_name == "tensorrt" for name in found.names if name[0] != "_"}


def _members_in(module: MypyFile) -> list[MemberExpr]:
    """Every `something.name` of a module."""
    collector = NameAndMemberCollector()
    module.accept(collector)
    return collector.member_exprs


def _look(
    outcome: Outcome, file: str, members: list[MemberExpr], types: Mapping[Expression, Type], known: set[str]
) -> None:
    """Note what a module of ours takes of TensorRT, and what it takes of who knows what by a name of TensorRT's."""
    for found in members:
        owner = _owner(found.expr, types)
        if owner is not None:
            if _has(owner, found.name):
                outcome.uses += 1
                outcome.names.add(found.name if isinstance(owner, MypyFile) else f"{owner.name}.{found.name}")
        elif found.name in known and isinstance(get_proper_type(types.get(found.expr)), AnyType):
            outcome.problems.append(Problem(file, found.line, "", f'"{found.name}" of an object of no declared type'))


def _calls(outcome: Outcome, types: Mapping[Expression, Type]) -> None:
    """Count the calls of TensorRT, and name those whose signature nobody tells."""
    for found in types:
        if not isinstance(found, CallExpr) or not isinstance(found.callee, MemberExpr):
            continue
        owner = _owner(found.callee.expr, types)
        if owner is None or not _has(owner, found.callee.name):
            continue
        called = get_proper_type(types.get(found.callee))
        if isinstance(called, CallableType) and called.is_var_arg and called.is_kw_arg:
            outcome.unsigned.add(f"{owner.name}.{found.callee.name}")
        else:
            outcome.calls += 1


def _has(owner: MypyFile | TypeInfo, name: str) -> bool:
    return bool(owner.names.get(name) if isinstance(owner, MypyFile) else owner.get(name))


def _owner(of: Expression, types: Mapping[Expression, Type]) -> MypyFile | TypeInfo | None:
    """TensorRT's module, or the class of it that an expression is or has as its value; None for all else."""
    if isinstance(of, RefExpr) and isinstance(of.node, MypyFile):
        return of.node if of.node.fullname == "tensorrt" else None
    found = get_proper_type(types.get(of))
    if isinstance(found, Overloaded):
        found = found.items[0]
    if isinstance(found, CallableType) and found.is_type_obj():
        info = found.type_object()
    elif isinstance(found, Instance):
        info = found.type
    else:
        return None
    return info if info.module_name == "tensorrt" else None


def _sort(outcome: Outcome, messages: list[str], root: Path, absent: tuple[Absent, ...]) -> None:
    """Put mypy's messages to the problems, or to what was expected."""
    undeclared, outcome.problems = outcome.problems, []
    expected = {(one.file, one.function, one.name): one for one in absent}
    problems = [_problem(message, root) for message in messages]
    # What comes of a name that is not there has no type either.
    wrong = {(problem.file, problem.line) for problem in problems if problem}
    for problem in [*problems, *(one for one in undeclared if (one.file, one.line) not in wrong)]:
        if problem is None:
            continue
        function = _function_at(root / problem.file, problem.line)
        named = [name for name in re.findall(r'"(\w+)"', problem.text) if (problem.file, function, name) in expected]
        if named:
            outcome.absent.append(expected[problem.file, function, named[0]])
        else:
            outcome.problems.append(replace(problem, function=function))
    for one in expected.values():
        if one not in outcome.absent and not one.asked_for:
            text = f"{one.name} is said to be absent, and is there or not asked for"
            outcome.problems.append(Problem(one.file, 0, one.function, text))


def _problem(message: str, root: Path) -> Problem | None:
    """A problem of a line of mypy's; None for what is no error of the code."""
    found = _ERROR.match(message)
    if found is None or _REPLACED.search(found["text"]):
        return None
    return Problem(os.path.relpath(found["file"], root), int(found["line"]), "", found["text"])


def _function_at(path: Path, line: int) -> str:
    """The name of the innermost function around a line, after those that it lies in."""
    name, node = [], ast.parse(path.read_text())
    inner: ast.AST | None = node
    while inner is not None:
        inner = next(
            (
                child
                for child in ast.iter_child_nodes(inner)
                if isinstance(child, ast.stmt) and child.lineno <= line <= (child.end_lineno or 0)
            ),
            None,
        )
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            name.append(inner.name)
    return ".".join(name)
