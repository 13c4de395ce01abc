"""What this machine has that artifacts need: platform, torch, TensorRT, GPU. Nothing is imported before it is asked."""

from __future__ import annotations

import platform
import sys
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trtbuild.runtime.problems import LoadError

if TYPE_CHECKING:
    import torch

MODULES = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}


def this_platform() -> str:
    """As recipes name platforms: linux-x86_64, windows-x86_64."""
    system = {"linux": "linux", "win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    processor = platform.machine().lower()
    return f"{system}-{ {'amd64': 'x86_64', 'x86_64': 'x86_64', 'arm64': 'aarch64'}.get(processor, processor) }"


def require_torch(wanted: str | None) -> None:
    """LoadError where torch is not installed. `wanted` is the version that the artifact was built with."""
    if find_spec("torch") is None:
        raise LoadError(
            "torch is not installed",
            [("artifact", f"built with torch {wanted}")] if wanted else [],
            f"pip install {'torch==' + wanted.partition('+')[0] if wanted else 'torch'}",
        )


def torch_version() -> str:
    """The installed torch's version, without its build."""
    import torch

    return str(torch.__version__).partition("+")[0]


def import_tensorrt(runtime: str, wanted: str | None) -> ModuleType:
    """TensorRT of one flavour. LoadError says what to install."""
    module = MODULES[runtime]
    hint = f"pip install {runtime}" + (f"=={wanted}" if wanted else "")
    if find_spec(module) is None:
        other = next((name for name, found in MODULES.items() if name != runtime and find_spec(found)), None)
        raise LoadError(
            f"The artifact needs {runtime}, which is not installed",
            [("needs", f"{runtime} {wanted or ''}".strip())]
            + ([("installed", f"{other}, which reads other engines")] if other else []),
            hint,
        )
    try:
        return import_module(module)
    except Exception as error:
        raise LoadError(f"{runtime} is installed and cannot be imported", [("raised", f"{error!r}")], hint) from error


def torch_tensorrt_installed(runtime: str) -> bool:
    """Whether Torch-TensorRT of this flavour is installed: both flavours go by one module name."""
    if find_spec("torch_tensorrt") is None:
        return False
    name = "torch-tensorrt-rtx" if runtime == "tensorrt-rtx" else "torch-tensorrt"
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def cuda_device(device: Any) -> torch.device:
    """The GPU that was asked for, the current one for None and "cuda". LoadError where there is none."""
    import torch

    if not torch.cuda.is_available():
        built = "torch sees no GPU" if torch.version.cuda else "this torch is built without CUDA"
        raise LoadError(
            "The artifact runs on a GPU, and there is none",
            [("torch", f"{torch.__version__}: {built}")],
            "`nvidia-smi` shows GPUs and driver; `pip install torch` brings CUDA with it on Linux.",
        )
    asked = torch.device("cuda" if device is None else device)
    index = torch.cuda.current_device() if asked.index is None else asked.index
    if index >= torch.cuda.device_count():
        raise LoadError(
            f"There is no GPU {index}", [("GPUs", ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count())))]
        )
    return torch.device("cuda", index)


def capability(device: torch.device) -> str:
    """The compute capability of a GPU, as "8.9"."""
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}.{minor}"


def gpu_name(device: torch.device) -> str:
    """The name of a GPU."""
    import torch

    return str(torch.cuda.get_device_name(device))
