"""The model's own signature over flat tensors: arguments in, structure out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trtbuild.runtime.description import Parameter, Tree
from trtbuild.runtime.problems import InputError


def signature_of(parameters: Sequence[Parameter]) -> inspect.Signature:
    """The parameters as inspect shows them. Constants of the trace are defaults."""
    shown = []
    optional = False
    for parameter in parameters:
        default: Any = inspect.Parameter.empty
        if isinstance(parameter.tree, Mapping) and "value" in parameter.tree:
            default, optional = parameter.tree["value"], True
        # A parameter without a default cannot follow one with, unless it is given by name.
        by_name = parameter.keyword or (optional and default is inspect.Parameter.empty)
        kind = inspect.Parameter.KEYWORD_ONLY if by_name else inspect.Parameter.POSITIONAL_OR_KEYWORD
        shown.append(inspect.Parameter(parameter.name, kind, default=default))
    shown.sort(key=lambda parameter: parameter.kind)
    return inspect.Signature(shown)


class Binding:
    """Arguments as the model takes them into the flat inputs of the artifact."""

    def __init__(self, parameters: Sequence[Parameter], count: int) -> None:
        self._parameters = list(parameters)
        self._count = count
        self._signature = signature_of(parameters)
        # Most models take tensors by position: then the arguments are the flat inputs as they are.
        self._plain = [p.tree for p in parameters] == list(range(count)) and not any(p.keyword for p in parameters)

    @property
    def signature(self) -> inspect.Signature:
        """What `inspect.signature` of the artifact gives."""
        return self._signature

    def flat(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[Any]:
        """The flat inputs. InputError where the arguments do not have the signature's structure."""
        if self._plain and not kwargs and len(args) == self._count:
            return args
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(
                f"The arguments do not fit the model: {error}", [("takes", f"{self._signature}")]
            ) from error
        bound.apply_defaults()
        flat: list[Any] = [None] * self._count
        for parameter in self._parameters:
            _place(bound.arguments[parameter.name], parameter.tree, flat, parameter.name)
        return flat

    def structured(self, flat: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Flat inputs as (args, kwargs) of the model: what programs that keep the structure are called with."""
        positional = [p for p in self._parameters if not p.keyword]
        named = [p for p in self._parameters if p.keyword]
        return (
            tuple(rebuilt(p.tree, flat) for p in positional),
            {p.name: rebuilt(p.tree, flat) for p in named},
        )


def _place(given: Any, tree: Tree, flat: list[Any], where: str) -> None:
    if isinstance(tree, int):
        flat[tree] = given
        return
    kind, items = next(iter(tree.items()))
    if kind == "value":
        if given is not items and not (type(given) is type(items) and given == items):
            raise InputError(
                f"`{where}` is fixed in the artifact",
                [("given", repr(given)), ("built with", repr(items))],
                "What is no tensor became part of the program when the model was traced.",
            )
        return
    if kind == "dict":
        if not isinstance(given, Mapping):
            raise _other_kind(where, "a dict", given)
        if given.keys() != items.keys():
            raise InputError(
                f"`{where}` has other keys than the model takes",
                [("given", ", ".join(map(str, given)) or "none"), ("takes", ", ".join(items))],
            )
        for key, item in items.items():
            _place(given[key], item, flat, f"{where}[{key!r}]")
        return
    if not isinstance(given, (tuple, list)):
        raise _other_kind(where, f"a {kind}", given)
    if len(given) != len(items):
        raise InputError(
            f"`{where}` has another length than the model takes",
            [("given", str(len(given))), ("takes", str(len(items)))],
        )
    for index, (value, item) in enumerate(zip(given, items, strict=True)):
        _place(value, item, flat, f"{where}[{index}]")


def _other_kind(where: str, wanted: str, given: Any) -> InputError:
    return InputError(f"`{where}` is not {wanted}", [("given", type(given).__name__), ("takes", wanted)])


def rebuilt(tree: Tree, flat: Sequence[Any]) -> Any:
    """Flat tensors in the tree's structure."""
    if isinstance(tree, int):
        return flat[tree]
    kind, items = next(iter(tree.items()))
    if kind == "value":
        return items
    if kind == "dict":
        return {key: rebuilt(item, flat) for key, item in items.items()}
    built = [rebuilt(item, flat) for item in items]
    return tuple(built) if kind == "tuple" else built


def builder(tree: Tree) -> Callable[[Sequence[Any]], Any]:
    """`rebuilt` for one tree, without the walk where it is a single tensor."""
    if tree == 0:
        return lambda flat: flat[0]
    return lambda flat: rebuilt(tree, flat)


def leaves(value: Any) -> list[Any]:
    """What lies in nested tuples, lists and dicts, in order."""
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]
