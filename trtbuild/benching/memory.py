"""Device memory that a contestant takes: what torch's allocator gave out, and what the driver says is gone.

TensorRT's own memory (weights, activations, compiled kernels) is not torch's; only the driver's figure holds it. That
one is of the whole GPU, so another process that allocates at the same time falsifies it.
"""

from __future__ import annotations

import gc
from typing import Any


class DeviceMemory:
    """Figures in bytes; None on a CPU, where a process cannot tell whose its memory is."""

    def __init__(self, device: str) -> None:
        self._cuda: Any = None
        if device == "cuda":
            import torch

            self._cuda = torch.cuda

    def taken(self) -> int | None:
        """Bytes of the GPU that are in use, by anyone; torch's unused blocks are given back first."""
        if self._cuda is None:
            return None
        gc.collect()
        self._cuda.synchronize()
        self._cuda.empty_cache()
        free, total = self._cuda.mem_get_info()
        return int(total - free)

    def begin_peak(self) -> None:
        """Begin to watch torch's allocator."""
        if self._cuda is not None:
            self._cuda.synchronize()
            self._cuda.reset_peak_memory_stats()
            self._before = self._cuda.memory_allocated()

    def peak(self) -> int | None:
        """Bytes that torch had given out at most since then, above what it had before."""
        if self._cuda is None:
            return None
        self._cuda.synchronize()
        return int(self._cuda.max_memory_allocated() - self._before)


def grown(before: int | None, after: int | None) -> int | None:
    """The difference of two figures of `taken`; None where there are none."""
    return None if before is None or after is None else max(0, after - before)
