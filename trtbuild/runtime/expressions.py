"""Which texts of a program torch may evaluate: sizes (`expr_str`, by sympy) and guards (Python source).

sympy's sympify evaluates its argument as Python, so only numbers, size symbols and functions over sizes pass.
"""

from __future__ import annotations

import ast
import re

_LONGEST = 100_000

_SYMBOL = re.compile(r"(?:s|u|i|zf|zuf)\d+")

_SIZE_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        """
    Symbol Integer Float Rational Add Mul Pow Mod Max Min Abs Eq Ne Lt Le Gt Ge Not And Or
    FloorDiv CleanDiv CeilDiv CeilToInt FloorToInt TruncToInt TruncToFloat RoundToInt RoundDecimal ToFloat Identity
    ModularIndexing PythonMod IntTrueDiv FloatTrueDiv FloatPow PowByNatural Where Piecewise ExprCondPair
    StrictGreaterThan StrictLessThan GreaterThan LessThan Equality Unequality LShift RShift
    BitwiseFn_bitwise_and BitwiseFn_bitwise_or BitwiseFn_bitwise_xor
    OpaqueUnaryFn_sqrt OpaqueUnaryFn_log OpaqueUnaryFn_exp OpaqueUnaryFn_sin OpaqueUnaryFn_cos OpaqueUnaryFn_tanh
    OpaqueUnaryFn_log2 OpaqueUnaryFn_asinh true false True False oo inf
    """,
    )
)
_PLAIN = (
    ast.Expression,
    ast.UnaryOp,
    ast.BinOp,
    ast.BoolOp,
    ast.Compare,
    ast.Load,
    ast.keyword,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)
_GUARD_METHODS = frozenset({"size", "stride", "storage_offset", "dim", "item", "numel"})
_GUARD_NAMES = (_SIZE_FUNCTIONS - {"Symbol"}) | {
    "L",
    "cast_symbool_to_symint_guardless",
    "math",
    "len",
    "bool",
    "int",
    "float",
}


def fault_of_size(text: str) -> str | None:
    """What in a size's text is no arithmetic over sizes; None where nothing is."""
    tree = _parsed(text)
    if tree is None:
        return "it is no expression"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in _SIZE_FUNCTIONS:
                return f"it calls {ast.unparse(node.func)}"
        elif isinstance(node, ast.Name):
            if node.id not in _SIZE_FUNCTIONS and not _SYMBOL.fullmatch(node.id):
                return f"it names {node.id}"
        elif isinstance(node, ast.Constant):
            # A text is evaluated by sympy in its turn.
            if isinstance(node.value, str) and not _SYMBOL.fullmatch(node.value):
                return f"it holds the text {node.value!r}"
            if not isinstance(node.value, (bool, int, float, str)):
                return f"it holds {node.value!r}"
        elif not isinstance(node, _PLAIN):
            return f"it holds a {type(node).__name__}"
    return None


def fault_of_guard(text: str) -> str | None:
    """What in a guard's source is no comparison of the inputs' sizes; None where nothing is."""
    tree = _parsed(text)
    if tree is None:
        return "it is no expression"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            of_tensor = isinstance(function, ast.Attribute) and function.attr in _GUARD_METHODS
            of_math = (
                isinstance(function, ast.Attribute)
                and isinstance(function.value, ast.Name)
                and function.value.id == "math"
                and not function.attr.startswith("_")
            )
            if not (of_tensor or of_math or (isinstance(function, ast.Name) and function.id in _GUARD_NAMES)):
                return f"it calls {ast.unparse(function)}"
        elif isinstance(node, ast.Name):
            if node.id not in _GUARD_NAMES:
                return f"it names {node.id}"
        elif isinstance(node, ast.Attribute):
            if node.attr.startswith("_"):
                return f"it takes .{node.attr}"
        elif isinstance(node, ast.Constant):
            if not isinstance(node.value, (bool, int, float, str, type(None))):
                return f"it holds {node.value!r}"
        elif not isinstance(node, (*_PLAIN, ast.Subscript, ast.Tuple)):
            return f"it holds a {type(node).__name__}"
    return None


def _parsed(text: str) -> ast.Expression | None:
    if len(text) > _LONGEST:
        return None
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
