"""Whether tensors are what an artifact takes: dtype, device, rank, sizes within their ranges, dims that agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtbuild.runtime.description import TensorFacts
from trtbuild.runtime.problems import InputError
from trtbuild.runtime.sizes import size_of

if TYPE_CHECKING:
    import torch


class InputCheck:
    """The check of the flat inputs of one artifact on one device."""

    def __init__(self, tensors: Sequence[TensorFacts], device: torch.device) -> None:
        self._tensors = tensors
        self._device = device

    def __call__(self, flat: Sequence[Any]) -> None:
        """InputError that names the input, the axis, the dim, the size and the range."""
        if len(flat) != len(self._tensors):
            raise InputError(
                "The artifact takes another number of tensors",
                [("given", str(len(flat))), ("takes", ", ".join(facts.name for facts in self._tensors))],
            )
        found: dict[str, tuple[int, str]] = {}
        for facts, tensor in zip(self._tensors, flat, strict=True):
            self._kind(facts, tensor)
            for axis, (size, given) in enumerate(zip(facts.shape, tensor.shape, strict=True)):
                if isinstance(size, int):
                    _fixed(facts, tensor, axis, size)
                elif size.isidentifier():
                    _dim(facts, axis, size, given, found)
        dims = {name: size for name, (size, _) in found.items()}
        for facts, tensor in zip(self._tensors, flat, strict=True):
            for axis, (size, given) in enumerate(zip(facts.shape, tensor.shape, strict=True)):
                wanted = None if isinstance(size, int) else size_of(size, dims)
                if wanted is not None and wanted != given:
                    raise InputError(
                        f"The input `{facts.name}` has a size that does not go with the others",
                        [("axis", str(axis)), ("given", str(given)), ("takes", f"{size} = {wanted}")],
                    )

    def _kind(self, facts: TensorFacts, tensor: Any) -> None:
        import torch

        if not isinstance(tensor, torch.Tensor):
            raise InputError(
                f"The input `{facts.name}` is no tensor",
                [("given", type(tensor).__name__), ("takes", f"{facts.dtype} {_shape(facts)}")],
            )
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype != facts.dtype:
            raise InputError(
                f"The input `{facts.name}` has another dtype than the artifact takes",
                [("given", dtype), ("takes", facts.dtype)],
                f"`.to(torch.{facts.dtype})` converts it.",
            )
        if tensor.device != self._device:
            raise InputError(
                f"The input `{facts.name}` is on another device than the artifact",
                [("given", str(tensor.device)), ("artifact", str(self._device))],
                f'`.to("{self._device}")` moves it; `load(..., device=...)` says where the artifact goes.',
            )
        if tensor.layout != torch.strided:
            raise InputError(f"The input `{facts.name}` is not dense", [("layout", str(tensor.layout))])
        if tensor.dim() != len(facts.shape):
            raise InputError(
                f"The input `{facts.name}` has another number of axes",
                [("given", _sizes(tensor.shape)), ("takes", _shape(facts))],
            )


def _fixed(facts: TensorFacts, tensor: Any, axis: int, size: int) -> None:
    if tensor.shape[axis] != size:
        raise InputError(
            f"The input `{facts.name}` has another size than the artifact takes",
            [
                ("axis", str(axis)),
                ("given", f"{tensor.shape[axis]}, of {_sizes(tensor.shape)}"),
                ("takes", f"{size}, of {_shape(facts)}"),
            ],
            "The size is a number in the recipe; a name from [dims] lets it vary.",
        )


def _dim(facts: TensorFacts, axis: int, dim: str, given: int, found: dict[str, tuple[int, str]]) -> None:
    place = f"`{facts.name}`, axis {axis}"
    before = found.setdefault(dim, (given, place))
    if before[0] != given:
        raise InputError(
            f"Two inputs differ in the dim `{dim}`, which they share",
            [("sizes", f"{before[0]} in {before[1]}\n{given} in {place}")],
        )
    low, _, high = facts.ranges.get(dim, (given, given, given))
    if not low <= given <= high:
        raise InputError(
            f"The dim `{dim}` is beyond the range that the artifact was built for",
            [("input", place), ("given", f"{given}, of {_shape(facts)}"), ("range", f"{low} to {high}")],
            f"[dims.{dim}] of the recipe says the range; call it in pieces, or build it again with a wider one.",
        )


def _sizes(sizes: Sequence[int | str]) -> str:
    return " x ".join(map(str, sizes)) or "a scalar"


def _shape(facts: TensorFacts) -> str:
    return _sizes(facts.shape)
