"""Where a comparison was made: the device, its driver, and the versions that ran there."""

from __future__ import annotations

import contextlib
import platform as machine
from pathlib import Path
from typing import Any

from trtbuild.toolchain import distributions, toolchain

_SHOWN = ("python", "torch", "torch-tensorrt-rtx", "torch-tensorrt", "tensorrt-rtx", "tensorrt")


def this_place(device: str) -> dict[str, Any]:
    """{"device", "compute_capability"?, "driver"?, "versions"} of this process."""
    versions = {name: version for name, version in toolchain().versions(_SHOWN).items() if version}
    if runtime := distributions().get("onnxruntime"):
        versions["onnxruntime"] = runtime
    if device == "cpu":
        return {"device": _processor(), "versions": versions}
    import torch

    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "compute_capability": ".".join(map(str, torch.cuda.get_device_capability())),
    }
    if driver := _driver():
        found["driver"] = driver
    return {**found, "versions": versions}


def _driver() -> str:
    """The version of NVIDIA's kernel module: the word after its name in the driver's own file."""
    with contextlib.suppress(OSError):
        first = Path("/proc/driver/nvidia/version").read_text(encoding="ascii", errors="replace").splitlines()[0]
        for word in first.split():
            if word[0].isdigit() and word.count(".") >= 1:
                return word
    return ""


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"CPU ({line.partition(':')[2].strip()})"
    return f"CPU ({machine.machine()})"
