"""min, opt and max of every size in a program, from the recipe's dims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtbuild.stages.inputs import tensors

Range = tuple[int, int, int]


class Bounds:
    """Ranges of shape symbols, and of expressions over them, at each optimisation profile.

    `profiles[0]` is the recipe's [dims]; the others are its [[profiles]].
    """

    def __init__(self, symbols: Sequence[Mapping[str, Range]]) -> None:
        self._symbols = symbols

    def of(self, size: Any) -> dict[str, int] | None:
        """{"min", "opt", "max"} of a size over all profiles; opt is the first's. None where a symbol is unknown."""
        ranges = [self.at(size.node.expr, profile) for profile in range(len(self._symbols))]
        known = [found for found in ranges if found is not None]
        if len(known) != len(ranges):
            return None
        return {"min": min(r[0] for r in known), "opt": known[0][1], "max": max(r[2] for r in known)}

    def at(self, expression: Any, profile: int) -> Range | None:
        """(min, opt, max) of an expression at one profile."""
        symbols = self._symbols[profile]
        free = sorted(expression.free_symbols, key=str)
        if any(str(symbol) not in symbols for symbol in free):
            return None
        corners: list[dict[Any, int]] = [{}]
        for symbol in free:
            low, _, high = symbols[str(symbol)]
            corners = [{**corner, symbol: value} for corner in corners for value in {low, high}]
        # A size grows or shrinks with each symbol by itself, so its extremes lie at the corners.
        values = [int(expression.xreplace(corner)) for corner in corners]
        opt = int(expression.xreplace({symbol: symbols[str(symbol)][1] for symbol in free}))
        return min(values), opt, max(values)


def bounds_of(program: Any, settings: Mapping[str, Any]) -> Bounds:
    """The ranges of a program's symbols: each user input's sizes beside the dims the recipe gives them."""
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs = [spec for group in settings["inputs"] for spec in tensors(group)]
    named: dict[str, str] = {}
    for name, spec in zip(program.graph_signature.user_inputs, specs, strict=True):
        value = placeholders[name].meta["val"] if name in placeholders else None
        for axis, size in enumerate(spec["shape"]):
            expression = getattr(getattr(value.shape[axis], "node", None), "expr", None) if value is not None else None
            if isinstance(size, str) and expression is not None and expression.is_Symbol:
                named[str(expression)] = size
    dims = settings["dims"]
    profiles = [dims, *settings["profiles"]]
    return Bounds(
        [{symbol: (p[dim]["min"], p[dim]["opt"], p[dim]["max"]) for symbol, dim in named.items()} for p in profiles]
    )
