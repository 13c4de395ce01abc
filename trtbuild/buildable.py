"""Which cells of the matrix this machine can build, and why not the others. Asked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trtbuild.digest import Json
from trtbuild.host import has_gpu, platform
from trtbuild.recipe.compile_settings import SINCE
from trtbuild.toolchain import toolchain

# Builder features that TensorRT-RTX refuses without a GPU (Myelin asks the driver) or without its lean library.
_NEED_GPU: dict[str, tuple[Json, str]] = {
    "immutable_weights": (False, "refittable engines"),
    "strip_engine_weights": (True, "engines without weights"),
    "refit_identical_engine_weights": (True, "refittable engines"),
    "version_compatible": (True, "version compatible engines"),
}

# Inputs of Torch-TensorRT take several optimisation profiles from this version on.
_PROFILES_SINCE = "2.14"

# What the ONNX way has an equivalent for; the rest of [compile] speaks of Torch-TensorRT's own work.
ONNX_OPTIONS = ("workspace_size", "optimization_level", "max_aux_streams", "sparse_weights", "enable_weight_streaming")


@dataclass(frozen=True, slots=True)
class Question:
    """A cell, as far as it decides what can be built."""

    platform: str
    runtime: str
    precision: str
    format: str
    converter: str
    options: Mapping[str, Json]
    profiles: int
    device: str = "cuda"
    ir: str = "dynamo"
    retrace: bool = False


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a cell cannot be built here, and what would mend it."""

    reason: str
    hint: str = ""


def why_not(cell: Question) -> Obstacle | None:
    """What stands in the way of building a cell on this machine; None where nothing does."""
    if cell.runtime == "null":
        return None
    return _of_the_matrix(cell) or _of_the_packages(cell) or _of_the_host(cell)


def _of_the_matrix(cell: Question) -> Obstacle | None:
    """What no machine can build."""
    if cell.runtime == "torch" and (obstacle := _of_torch_alone(cell)):
        return obstacle
    mixed = cell.precision.endswith("-mixed")
    if mixed and cell.format == "onnx":
        return Obstacle(
            "mixed precision is made when compiling, and an ONNX file is made before", "Ask for fp16, bf16 or fp32."
        )
    if cell.format == "onnx" or cell.runtime == "torch":
        return None
    if cell.converter == "onnx":
        if mixed:
            return Obstacle(
                'mixed precision needs Torch-TensorRT\'s autocast, which `converter = "onnx"` passes by',
                'Set `converter = "torch-tensorrt"`.',
            )
        if cell.format != "engine":
            return Obstacle(
                f'`converter = "onnx"` makes one engine, not a program as {cell.format} needs',
                'Set `converter = "torch-tensorrt"`.',
            )
        if foreign := sorted(set(cell.options) - set(ONNX_OPTIONS)):
            return Obstacle(
                f'with `converter = "onnx"` there is no {", ".join(foreign)}',
                f"Remove it from [compile]; {', '.join(ONNX_OPTIONS)} are understood.",
            )
    if cell.platform.startswith("windows") and cell.format in ("torchscript", "aot_inductor"):
        return Obstacle(f"{cell.format} cannot be cross-compiled for Windows", "Ask for exported_program or engine.")
    if cell.ir == "ts":
        return _of_torchscript(cell, mixed)
    return None


def _of_torch_alone(cell: Question) -> Obstacle | None:
    """What cannot be without TensorRT."""
    if cell.format == "engine":
        return Obstacle(
            'the engine format is of TensorRT, and the target has runtime = "torch"',
            'Set `runtime = "tensorrt-rtx"`, or ask for exported_program, torchscript, aot_inductor or onnx.',
        )
    if cell.precision not in ("fp32", "fp16", "bf16"):
        return Obstacle(
            f'{cell.precision} is of TensorRT, and the target has runtime = "torch"', "Ask for fp32, fp16 or bf16."
        )
    if cell.platform.startswith("windows") and cell.format != "onnx":
        return Obstacle(
            f"{cell.format} without TensorRT is not made for Windows",
            "An exported_program without TensorRT holds nothing of a platform: the one for linux-x86_64 loads there.",
        )
    return None


def _of_torchscript(cell: Question, mixed: bool) -> Obstacle | None:
    """What the TorchScript frontend cannot make."""
    if cell.format != "torchscript":
        return Obstacle(
            f'`ir = "ts"` makes a torchscript, and no {cell.format}',
            'Remove `ir` from [compile]: "dynamo" makes every format.',
        )
    if mixed:
        return Obstacle(
            "mixed precision needs Torch-TensorRT's autocast, which the TorchScript frontend has not",
            "Ask for fp32, fp16 or bf16.",
        )
    return None


def _of_the_packages(cell: Question) -> Obstacle | None:
    tools = toolchain()
    if tools.torch is None:
        return Obstacle("torch is not installed", "pip install 'trtbuild[rtx]'")
    if (cell.format == "onnx" or cell.converter == "onnx") and (tools.onnx is None or tools.onnxscript is None):
        return Obstacle("onnx and onnxscript are not installed", "pip install 'trtbuild[onnx]'")
    if cell.format == "onnx" or cell.runtime == "torch":
        return None
    if cell.runtime == "tensorrt-rtx":
        if tools.tensorrt_rtx is None:
            return Obstacle("TensorRT-RTX is not installed", "pip install 'trtbuild[rtx]'")
        if cell.converter == "torch-tensorrt" and tools.torch_tensorrt_rtx is None:
            return Obstacle("Torch-TensorRT for RTX is not installed", "pip install 'trtbuild[rtx]'")
        torch_tensorrt = tools.torch_tensorrt_rtx
    else:
        if tools.tensorrt is None:
            return Obstacle("standard TensorRT is not installed", "pip install 'trtbuild[tensorrt]'")
        if cell.converter == "torch-tensorrt" and tools.torch_tensorrt is None:
            return Obstacle("Torch-TensorRT is not installed", "pip install 'trtbuild[tensorrt]'")
        torch_tensorrt = tools.torch_tensorrt
    return _of_the_version(cell, torch_tensorrt) if cell.converter == "torch-tensorrt" and torch_tensorrt else None


def _of_the_version(cell: Question, torch_tensorrt: str) -> Obstacle | None:
    """What this Torch-TensorRT is too old for."""
    upgrade = "Upgrade torch and Torch-TensorRT together, or remove it"
    for name in cell.options:
        if name in SINCE and _numbers(torch_tensorrt) < _numbers(SINCE[name]):
            return Obstacle(
                f"{name} in [compile] came with Torch-TensorRT {SINCE[name]}, and here is {torch_tensorrt}",
                f"{upgrade}.",
            )
    if cell.profiles and _numbers(torch_tensorrt) < _numbers(_PROFILES_SINCE):
        return Obstacle(
            f"several optimisation profiles came with Torch-TensorRT {_PROFILES_SINCE}, and here is {torch_tensorrt}",
            f'{upgrade}, or set `converter = "onnx"`.',
        )
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2])


def _of_the_host(cell: Question) -> Obstacle | None:
    if cell.format == "onnx":
        return None
    if platform() != "linux-x86_64":
        return Obstacle(f"artifacts are built on linux-x86_64, and this machine is {platform()}")
    if has_gpu():
        return None
    if cell.runtime == "tensorrt":
        return Obstacle(
            "standard TensorRT builds on a GPU of the target's kind, and there is none here",
            'Set `runtime = "tensorrt-rtx"`, or build on a GPU machine.',
        )
    for name, (value, what) in _NEED_GPU.items() if cell.runtime == "tensorrt-rtx" else ():
        if cell.options.get(name) == value:
            return Obstacle(
                f"{what} ({name} in [compile]) need a GPU, and there is none here",
                f"Remove {name}, or build on a GPU machine.",
            )
    return _of_writing(cell) if cell.device == "cuda" and cell.platform.startswith("linux") else None


def _of_writing(cell: Question) -> Obstacle | None:
    """What must run on a GPU to be written."""
    instead = "Build it on a GPU machine: what it is made from comes from the cache. Or ask for exported_program."
    if cell.format in ("torchscript", "aot_inductor"):
        return Obstacle(f"{cell.format} needs a GPU while it is written, and there is none here", instead)
    if cell.format == "exported_program" and cell.retrace and cell.runtime != "torch":
        return Obstacle(
            "tracing a compiled program once more (retrace in [export]) needs a GPU, and there is none here",
            "Remove `retrace`, or build it on a GPU machine.",
        )
    return None
