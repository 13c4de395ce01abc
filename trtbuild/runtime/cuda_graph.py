"""An engine at one set of shapes as a CUDA graph: launched in one go, from and to buffers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import torch

from trtbuild.runtime.problems import LoadError

if TYPE_CHECKING:
    from trtbuild.runtime.engine import Engine

# TensorRT chooses and prepares on its first runs at a shape what a capture must find done.
_WARM_UP = 3


class Graph:
    """A captured call. Inputs are copied in, results are copies: they stay as they are at the next call."""

    def __init__(self, engine: Engine, inputs: Sequence[torch.Tensor]) -> None:
        self._device = engine.device
        self._lock = Lock()
        self._last: torch.cuda.Stream | None = None
        stream = torch.cuda.Stream(engine.device)
        with torch.cuda.device(engine.device):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._inputs = [tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in inputs]
                call = engine.call_alone(self._inputs)
                for _ in range(_WARM_UP):
                    call(self._inputs)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may go on allocating: only this one must keep to what can be captured.
                with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                    self._outputs = call(self._inputs)
            except RuntimeError as error:
                raise LoadError(
                    "The engine cannot be captured in a CUDA graph",
                    [("raised", str(error).splitlines()[0])],
                    "Load it without `cuda_graph=True`: sizes that only the data decides cannot be captured.",
                ) from error
        # Holds the context whose memory the graph uses.
        self._call = call

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with self._lock, torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            if self._last is not None and self._last != current:
                current.wait_stream(self._last)
            self._last = current
            for kept, given in zip(self._inputs, inputs, strict=True):
                kept.copy_(given)
            self._graph.replay()
            return [output.clone() for output in self._outputs]
