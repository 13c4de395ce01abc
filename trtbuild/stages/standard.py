"""Standard TensorRT: what its builder is told of a target, on the GPU that the engine is for.

It builds for the GPU that it has, by timing kernels there; for several compute capabilities it is asked for one engine
that any GPU from 8.0 on runs, and for Windows for a cross-platform engine, which does not run where it was built.
Source: HardwareCompatibilityLevel and RuntimePlatform of TensorRT's Python API,
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtbuild.errors import StageError

# What an engine can be compatible with: NVIDIA names the level AMPERE_PLUS.
_AMPERE = 8.0


def set_target(trt: Any, config: Any, settings: Mapping[str, Any]) -> None:
    """Set platform, GPUs and workspace limit of a compile step on a builder config.

    StageError where the GPU here is not the target's, or this TensorRT does not build for the platform.
    """
    check_gpu(settings["compute_capability"])
    if for_several(settings):
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings["platform"].startswith("windows"):
        config.runtime_platform = trt.RuntimePlatform.WINDOWS_AMD64
        # Where it cannot, TensorRT logs an error, keeps what was set before and builds for this machine.
        if config.runtime_platform != trt.RuntimePlatform.WINDOWS_AMD64:
            raise StageError(
                "This TensorRT does not build for Windows",
                [("platform", settings["platform"]), ("TensorRT", str(trt.__version__))],
                "That needs libnvinfer_builder_resource_win, which comes with TensorRT for Linux x86-64.",
            )
    # By default it is the GPU's memory, and more than that is an error.
    if workspace := settings["options"].get("workspace_size"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)


def for_several(settings: Mapping[str, Any]) -> bool:
    """Whether the engine is for other GPUs than the one that it is built on."""
    return len(settings["compute_capability"]) > 1 or bool(settings["options"].get("hardware_compatible"))


def check_gpu(capabilities: Sequence[str]) -> None:
    """StageError where the GPU here is none of those that the target names, or one engine cannot be for all of them."""
    import torch

    here = ".".join(map(str, torch.cuda.get_device_capability()))
    named = ", ".join(capabilities)
    if capabilities and here not in capabilities:
        raise StageError(
            "Standard TensorRT builds on a GPU that the engine is for",
            [("built for", f"compute capability {named}"), ("GPU here", f"{torch.cuda.get_device_name()}, {here}")],
            f'Add "{here}" to compute_capability of the target, or build on another GPU.',
        )
    if len(capabilities) > 1 and any(float(capability) < _AMPERE for capability in capabilities):
        raise StageError(
            "Standard TensorRT has one engine for several GPUs from compute capability 8.0 on only",
            [("built for", f"compute capability {named}")],
            "Make a target of each that is older.",
        )
