"""An opened artifact: a module with the model's own signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from trtbuild.runtime.backends import Backend, Run
from trtbuild.runtime.description import Description
from trtbuild.runtime.inputs import InputCheck
from trtbuild.runtime.structure import Binding, builder


class Artifact(torch.nn.Module):  # type: ignore[misc]
    """What trtbuild built, to be called as the model that it was built from.

    Inputs are checked in full where their shapes, dtypes or devices are new; InputError names what does not fit. No
    gradients: an artifact is for inference.
    """

    def __init__(self, description: Description, device: torch.device, backend: Backend) -> None:
        super().__init__()
        self.description = description
        self.device = device
        self._backend = backend
        self._binding = Binding(description.parameters, len(description.inputs))
        self._check = InputCheck(description.inputs, device)
        self._bind, self._build = self._binding.flat, builder(description.result)
        self._ready: dict[Any, Run] = {}
        # Where inspect looks first.
        self.__signature__ = self._binding.signature
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's outputs in the model's structure."""
        return self._build(self.flat(*self._bind(args, kwargs)))

    def flat(self, *tensors: torch.Tensor) -> list[Any]:
        """The flat outputs for flat inputs, both in the manifest's order.

        Tensors; numbers where the model gives a size. What is the same in every run may be None: the structure has it.
        """
        try:
            key = tuple([(tensor.shape, tensor.dtype, tensor.device, tensor.layout) for tensor in tensors])
            run = self._ready.get(key)
        except (AttributeError, TypeError):
            key, run = None, None
        if run is None:
            run = self._prepare(key, tensors)
        results = run(tensors)
        return results if isinstance(results, list) else list(results)

    def _prepare(self, key: Any, tensors: tuple[torch.Tensor, ...]) -> Run:
        self._check(tensors)
        run = self._backend.prepare(tensors)
        if run is None:
            return self._backend.run
        if len(self._ready) >= self._backend.kept:
            # The oldest: a run may hold a context or a graph of its own.
            self._ready.pop(next(iter(self._ready)), None)
        self._ready[key] = run
        return run

    @property
    def engines(self) -> Mapping[str, Any]:
        """TensorRT's engine objects (ICudaEngine) by name; empty where another runtime holds them."""
        return self._backend.engines

    def extra_repr(self) -> str:
        """What it is, for print()."""
        target = self.description.target
        return f"{self.description.format}, {target.name} {self.description.precision}, {self.device}".strip()
