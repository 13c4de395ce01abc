"""TensorRT's runtime with a recorder of its errors: calls that fail hand back None or False, and say why only there.

No logger in Python: TensorRT calls it for every detail, from threads of its own too, which may outlive the interpreter.
"""

from __future__ import annotations

from collections import deque
from typing import Any

_KEPT = 8
_runtimes: dict[str, tuple[Any, Any, deque[str]]] = {}


def runtime_for(trt: Any) -> Any:
    """The process's one Runtime of a flavour of TensorRT; its engines and contexts record errors where it does."""
    return _entry(trt)[0]


def messages_of(trt: Any) -> list[tuple[str, str]]:
    """The errors recorded since they were last asked for, as a fact of an error of ours."""
    messages = _entry(trt)[2]
    text = "\n".join(messages)
    messages.clear()
    return [("TensorRT says", text)] if text else []


def _entry(trt: Any) -> tuple[Any, Any, deque[str]]:
    found = _runtimes.get(trt.__name__)
    if found is None:
        messages: deque[str] = deque(maxlen=_KEPT)

        class Recorder(trt.IErrorRecorder):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IErrorRecorder.__init__(self)

            def num_errors(self) -> int:
                return len(messages)

            def get_error_code(self, index: int) -> Any:
                return trt.ErrorCodeTRT.UNSPECIFIED_ERROR

            def get_error_desc(self, index: int) -> str:
                return messages[index]

            def has_overflowed(self) -> bool:
                return len(messages) == _KEPT

            def clear(self) -> None:
                messages.clear()

            def report_error(self, code: Any, description: str) -> bool:
                messages.append(description)
                # That it is fatal: TensorRT ends the call.
                return True

        # TensorRT keeps a bare pointer to it.
        recorder = Recorder()
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        runtime.error_recorder = recorder
        found = _runtimes[trt.__name__] = (runtime, recorder, messages)
    return found
