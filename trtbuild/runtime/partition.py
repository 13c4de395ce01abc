"""An engine inside a program as a module: by Torch-TensorRT's runtime where it is installed, else by TensorRT's."""

from __future__ import annotations

from typing import Any

import torch

from trtbuild.runtime.engine import Engine, deserialise
from trtbuild.runtime.engine_fields import EngineFields
from trtbuild.runtime.machine import torch_tensorrt_installed


class EngineModule(torch.nn.Module):  # type: ignore[misc]
    """One engine, run by TensorRT's Python runtime."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The engine's outputs. Scalars that PyTorch keeps on the CPU are moved, as Torch-TensorRT does."""
        device = self.engine.device
        return self.engine(*[tensor if tensor.device == device else tensor.to(device) for tensor in inputs])


class TorchTensorRTModule(torch.nn.Module):  # type: ignore[misc]
    """One engine, run by Torch-TensorRT's C++ runtime."""

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The engine's outputs."""
        found: list[torch.Tensor] = torch.ops.tensorrt.execute_engine(list(inputs), self.engine)
        return found


def torch_tensorrt(runtime: str) -> bool:
    """Whether Torch-TensorRT's C++ runtime of this flavour is loaded now; loads it where it is installed."""
    if not torch_tensorrt_installed(runtime):
        return False
    try:
        import torch_tensorrt  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: F401

        return int(torch.ops.tensorrt.SERIALIZATION_LEN()) > 0
    except Exception:
        # Installed for another torch, or without its C++ part: TensorRT alone runs the engines as well.
        return False


def by_torch_tensorrt(fields: EngineFields, device: torch.device) -> torch.nn.Module:
    """The engine by Torch-TensorRT, told that it was made for this platform and GPU: whether it fits was asked."""
    ops = torch.ops.tensorrt
    major, minor = torch.cuda.get_device_capability(device)
    here = [str(device.index or 0), str(major), str(minor), "0", torch.cuda.get_device_name(device)]
    info = fields.for_torch_tensorrt(
        length=int(ops.SERIALIZATION_LEN()),
        abi=str(ops.ABI_VERSION()),
        platform=str(ops.get_current_platform()),
        device=str(ops.SERIALIZED_RT_DEVICE_DELIM())[0].join(here),
    )
    return TorchTensorRTModule(torch.classes.tensorrt.Engine(info))


def by_tensorrt(trt: Any, fields: EngineFields, device: torch.device) -> EngineModule:
    """The engine by TensorRT's Python runtime."""
    engine = deserialise(trt, fields.engine, device, f"the program's engine `{fields.name}`")
    return EngineModule(Engine(trt, engine, device, fields.inputs, fields.outputs))
