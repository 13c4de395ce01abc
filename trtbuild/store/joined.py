"""An output kept in parts, read as one file without being put together: only what is asked for is read."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any


class Joined(io.RawIOBase):
    """Files one after the other, given with their sizes. They are opened when they are read, and not kept open."""

    def __init__(self, files: Sequence[tuple[Path, int]]) -> None:
        super().__init__()
        self._paths = [path for path, _ in files]
        self._starts = [0, *accumulate(size for _, size in files)]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._starts[-1]:
            return 0
        index = bisect_right(self._starts, self._at) - 1
        view = memoryview(buffer).cast("B")[: self._starts[index + 1] - self._at]
        with self._paths[index].open("rb", buffering=0) as file:
            file.seek(self._at - self._starts[index])
            count = file.readinto(view) or 0
        self._at += count
        return count
