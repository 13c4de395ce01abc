"""Memory for outputs whose sizes only the data decides: TensorRT asks for it while it runs.

It is taken on the context's own stream, which no other work uses, and handed to the caller's afterwards.
"""

from __future__ import annotations

from typing import Any

import torch

from trtbuild.runtime.problems import RunError


class Allocator:
    """The memory of one output. `for_tensorrt` is what a context is given."""

    def __init__(self, trt: Any, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._memory: torch.Tensor | None = None
        self._shape: tuple[int, ...] | None = None
        outer = self

        class ForTensorRT(trt.IOutputAllocator):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IOutputAllocator.__init__(self)

            def reallocate_output(self, name: str, memory: Any, size: int, alignment: int) -> int:
                return outer._allocate(size)

            def reallocate_output_async(self, name: str, memory: Any, size: int, alignment: int, stream: Any) -> int:
                return outer._allocate(size)

            def notify_shape(self, name: str, shape: Any) -> None:
                outer._shape = tuple(shape)

        self.for_tensorrt = ForTensorRT()

    def take(self, dtype: torch.dtype, used_on: torch.cuda.Stream | None) -> torch.Tensor:
        """The output of the last run, in memory that is the caller's from now on."""
        if self._memory is None or self._shape is None:
            raise RunError("TensorRT gave no size for an output", [])
        memory, shape, self._memory, self._shape = self._memory, self._shape, None, None
        for stream in (torch.cuda.current_stream(memory.device), used_on):
            if stream is not None:
                memory.record_stream(stream)
        count = 1
        for size in shape:
            count *= size
        return memory[: count * dtype.itemsize].view(dtype).view(shape)

    def _allocate(self, size: int) -> int:
        with torch.cuda.stream(self._stream):
            self._memory = torch.empty(max(size, 1), dtype=torch.uint8, device=self._stream.device)
        return int(self._memory.data_ptr())
