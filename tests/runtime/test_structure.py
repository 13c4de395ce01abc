"""The model's own signature over flat tensors."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from trtbuild.runtime.description import Parameter
from trtbuild.runtime.problems import InputError
from trtbuild.runtime.structure import Binding, leaves, rebuilt, signature_of

NESTED = [
    Parameter("a", False, 0),
    Parameter("pair", False, {"tuple": [1, {"list": [2]}]}),
    Parameter("named", False, {"dict": {"z": 3}}),
    Parameter("mask", False, {"value": None}),
    Parameter("gain", True, 4),
]


def test_nested_and_keyword_arguments_come_out_flat() -> None:
    binding = Binding(NESTED, 5)
    assert binding.flat(("a", ("b", ["c"]), {"z": "d"}), {"gain": "e"}) == list("abcde")
    assert binding.flat(("a",), {"gain": "e", "named": {"z": "d"}, "pair": ["b", ("c",)]}) == list("abcde")
    assert binding.flat(("a", ("b", ["c"]), {"z": "d"}, None), {"gain": "e"}) == list("abcde")


def test_flat_and_structured_are_the_reverse_of_each_other() -> None:
    args, kwargs = Binding(NESTED, 5).structured(list("abcde"))
    assert args == ("a", ("b", ["c"]), {"z": "d"}, None) and kwargs == {"gain": "e"}
    assert leaves((args, kwargs)) == ["a", "b", "c", "d", None, "e"]


def test_inspect_shows_the_signature() -> None:
    assert str(signature_of(NESTED)) == "(a, pair, named, mask=None, *, gain)"
    late = [Parameter("a", False, {"value": 1.5}), Parameter("b", False, 0)]
    assert str(signature_of(late)) == "(a=1.5, *, b)"
    assert inspect.Parameter.KEYWORD_ONLY is signature_of(late).parameters["b"].kind


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument"),
        (("a", ("b", ["c"]), {"z": "d"}, None, "e"), {}, "too many positional"),
        (("a", ("b", ["c"]), {"z": "d"}), {"gain": 1, "loss": 2}, "unexpected keyword argument"),
        (("a", "b", {"z": "d"}), {"gain": 1}, "`pair` is not a tuple"),
        (("a", ("b", ["c", "c"]), {"z": "d"}), {"gain": 1}, r"`pair\[1\]` has another length"),
        (("a", ("b", ["c"]), {"y": "d"}), {"gain": 1}, "`named` has other keys"),
        (("a", ("b", ["c"]), ["d"]), {"gain": 1}, "`named` is not a dict"),
        (("a", ("b", ["c"]), {"z": "d"}, True), {"gain": 1}, "`mask` is fixed in the artifact"),
    ],
)
def test_what_does_not_fit_is_named(args: tuple[Any, ...], kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Binding(NESTED, 5).flat(args, kwargs)


def test_outputs_take_the_models_structure() -> None:
    tree = {"dict": {"total": 0, "rest": {"tuple": [1, {"list": [0, {"value": None}]}]}}}
    assert rebuilt(tree, ["t", "u"]) == {"total": "t", "rest": ("u", ["t", None])}
