"""Sizes that are expressions over dims, as manifests write them: "2*batch", "Max(1, batch)"."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_OPERATORS: Mapping[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Mapping[str, Callable[..., int]] = {"Max": max, "Min": min, "FloorDiv": operator.floordiv}


def size_of(expression: str, dims: Mapping[str, int]) -> int | None:
    """The expression's value, None where it names an unknown dim or is beyond simple arithmetic."""
    tree = _parsed(expression)
    return None if tree is None else _value(tree, dims)


@cache
def _parsed(expression: str) -> ast.expr | None:
    try:
        return ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None


def _value(node: ast.expr, dims: Mapping[str, int]) -> int | None:
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.Name):
        return dims.get(node.id)
    call: Callable[..., int] | None = None
    parts: list[ast.expr] = []
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        call, parts = operator.neg, [node.operand]
    elif isinstance(node, ast.BinOp):
        call, parts = _OPERATORS.get(type(node.op)), [node.left, node.right]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        call, parts = _FUNCTIONS.get(node.func.id), node.args
    values: list[Any] = [_value(part, dims) for part in parts]
    if call is None or None in values:
        return None
    try:
        return call(*values)
    except (ArithmeticError, TypeError, ValueError):
        return None
