"""The portable compiled program: Torch-TensorRT's own placeholder nodes, the engines kept beside them.

Torch-TensorRT writes a cross-compiled program as an ExportedProgram whose engines are arguments of
`tensorrt::no_op_placeholder_for_execute_engine`, base64 text and all. Here the text is a short reference, so that the
program stays small and one for all platforms; `cross_compile` puts the engines and the platform in.
Source: core/runtime/runtime.h and dynamo/_exporter.py of Torch-TensorRT.
"""

from __future__ import annotations

import base64
from typing import Any

PLATFORM = "linux_x86_64"
WINDOWS = "windows_x86_64"

# What Torch-TensorRT's loader accepts a GPU by: the engine's capability, or any from 8.0 on where the program says it
# is hardware compatible. An RTX engine for several capabilities is.
_MINIMUM = "8.0"


def reference(engine: str) -> str:
    """The text that stands for an engine's bytes in the portable program."""
    return base64.b64encode(f"trtbuild-engine:{engine}".encode()).decode()


def pack_engines_as_references() -> None:
    """Have Torch-TensorRT's exporter write references. Only for the process that compiles.

    The exporter base64-encodes the engine itself, so it is handed the plain text of the reference.
    """
    from torch_tensorrt.dynamo.runtime._TorchTensorRTModule import ENGINE_IDX, TorchTensorRTModule

    pack = TorchTensorRTModule._pack_engine_info

    def with_reference(self: Any) -> list[Any]:
        info: list[Any] = pack(self)
        info[ENGINE_IDX] = f"trtbuild-engine:{self.name}".encode()
        return info

    TorchTensorRTModule._pack_engine_info = with_reference


def hardware_compatible(capabilities: list[str]) -> bool:
    """Whether a program for these capabilities may say that it runs on any GPU from 8.0 on."""
    return len(capabilities) > 1 and float(capabilities[0]) >= float(_MINIMUM)
