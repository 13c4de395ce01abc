"""TensorRT's runtime with a logger that keeps its errors: an API error of TensorRT is often only logged."""

from __future__ import annotations

from collections import deque
from typing import Any

_KEPT = 8
_runtimes: dict[str, tuple[Any, deque[str], Any]] = {}


def runtime_for(trt: Any) -> Any:
    """The process's one Runtime of a flavour of TensorRT."""
    return _entry(trt)[0]


def messages_of(trt: Any) -> list[tuple[str, str]]:
    """The errors logged since they were last asked for, as a fact of an error of ours; none where another logger,
    such as Torch-TensorRT's, was there first and shows them itself."""
    messages = _entry(trt)[1]
    text = "\n".join(messages)
    messages.clear()
    return [("TensorRT says", text)] if text else []


def _entry(trt: Any) -> tuple[Any, deque[str], Any]:
    found = _runtimes.get(trt.__name__)
    if found is None:
        messages: deque[str] = deque(maxlen=_KEPT)
        severity = trt.ILogger.Severity
        errors = (severity.INTERNAL_ERROR, severity.ERROR)

        class Keeping(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, level: Any, message: str) -> None:
                if level in errors:
                    messages.append(message)

        # TensorRT keeps a bare pointer to its logger.
        logger = Keeping()
        found = _runtimes[trt.__name__] = (trt.Runtime(logger), messages, logger)
    return found
