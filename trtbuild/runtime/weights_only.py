"""torch.load without pickles, also where torch.export would fall back to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_FORCE, _FORBID = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_lock = Lock()


@contextmanager
def weights_only() -> Iterator[None]:
    """Within it torch unpickles tensors and nothing else. One thread at a time: torch asks the environment."""
    with _lock:
        before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORBID)}
        os.environ[_FORCE] = "1"
        try:
            yield
        finally:
            del os.environ[_FORCE]
            os.environ.update({name: value for name, value in before.items() if value is not None})
