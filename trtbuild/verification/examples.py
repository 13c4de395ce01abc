"""The inputs of a case, once as the artifact takes them and once as the source model does.

Values are drawn in the model's own dtypes, rounded to those that the artifact takes, and widened again for the source
model: both see the same numbers. Otherwise the rounding of the inputs, which is the caller's and not the artifact's,
would count as its error: of 1000.3 half precision keeps 1000.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trtbuild.errors import StageError
from trtbuild.stages.inputs import cast_inputs, example, split, tensors
from trtbuild.verification.cases import Case

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def arguments(settings: Mapping[str, Any], case: Case, device: str) -> tuple[Arguments, Arguments]:
    """(args, kwargs) for the artifact and for the source model, on a device.

    `settings` are those of a verify step. StageError where a value does not fit the artifact's dtype: half precision
    ends at 65504.
    """
    import torch

    drawn = example(settings["inputs"], case.dims(), case.seed)
    wide = settings["verify"]["reference"] == "float64"
    flat = torch.utils._pytree.tree_leaves(drawn)
    low: list[Any] = []
    high: list[Any] = []
    for value, (name, dtype) in zip(flat, _taken(settings), strict=True):
        rounded = value.to(getattr(torch, dtype))
        _check_held(name, value, rounded)
        low.append(rounded.to(device))
        back = torch.float64 if wide and value.is_floating_point() else value.dtype
        # A copy even where no dtype changes: a model may write into its inputs.
        high.append(rounded.to(back).to(device, copy=True))
    return _like(drawn, low), _like(drawn, high)


def _taken(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and dtype of every tensor that the artifact takes, in the order of (args, kwargs)."""
    positional, keyword = split(cast_inputs(settings["inputs"], settings["precision"]))
    for group in [*positional, *keyword.values()]:
        for spec in tensors(group):
            yield group["name"], spec["dtype"]


def _check_held(name: str, value: Any, rounded: Any) -> None:
    if value.is_floating_point() and not bool(rounded.isfinite().all()) and bool(value.isfinite().all()):
        raise StageError(
            f"The input `{name}` does not fit the artifact's precision",
            [
                ("largest value", f"{float(value.abs().max()):.6g}"),
                ("takes", str(rounded.dtype).removeprefix("torch.")),
            ],
            "Give the input a smaller `range`, or build with bf16 or fp32.",
        )


def _like(structure: Any, leaves: list[Any]) -> Arguments:
    import torch

    made: Arguments = torch.utils._pytree.tree_unflatten(leaves, torch.utils._pytree.tree_structure(structure))
    return made
