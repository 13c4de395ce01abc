"""Where something was measured: the device, its clocks as far as the driver tells, and the versions that ran."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from trtbuild.toolchain import distributions
from trtbuild.verification.place import this_place

_CLOCKS = {
    "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz",
    "clocks.max.sm": "sm_max_mhz",
    "power.draw": "power_w",
    "power.limit": "power_limit_w",
    "temperature.gpu": "celsius",
}


def measured_on(device: str) -> dict[str, Any]:
    """The device, its driver and the versions that run here; nothing in it names the machine."""
    import torch

    place = this_place(device)
    if triton := distributions().get("triton"):
        place["versions"]["triton"] = triton
    if device != "cuda":
        return {**place, "threads": torch.get_num_threads()}
    return {**place, "memory_bytes": torch.cuda.get_device_properties().total_memory, "cuda": torch.version.cuda}


def clocks(device: str) -> dict[str, float]:
    """Clocks, power and temperature of the GPU, as nvidia-smi tells them; empty where it is absent or does not."""
    values = _asked(",".join(_CLOCKS)) if device == "cuda" else []
    told = {}
    for name, value in zip(_CLOCKS.values(), values, strict=False):
        try:
            told[name] = float(value)
        except ValueError:
            continue
    return told


def _asked(query: str) -> list[str]:
    """nvidia-smi's answer for torch's current GPU."""
    import torch

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    # nvidia-smi counts GPUs otherwise than a process with CUDA_VISIBLE_DEVICES does; the UUID is one for both.
    uuid = getattr(torch.cuda.get_device_properties(), "uuid", None)
    which = [f"--id=GPU-{uuid}"] if uuid else []
    command = [tool, *which, f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = done.stdout.strip().splitlines()
    return [value.strip() for value in lines[0].split(",")] if lines else []
