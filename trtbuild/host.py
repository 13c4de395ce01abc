"""What this machine is, as far as the plan and the workers need it; nothing here imports a library."""

from __future__ import annotations

import os
import sys
from functools import cache


@cache
def has_gpu() -> bool:
    """Whether an NVIDIA driver with a GPU is at hand. `doctor` looks closer."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    gpus = "/proc/driver/nvidia/gpus"
    return (os.path.isdir(gpus) and bool(os.listdir(gpus))) or _exists("/dev/nvidia0", "/dev/dxg")


@cache
def has_driver() -> bool:
    """Whether an NVIDIA driver is loaded, with or without a GPU that this process may use."""
    return _exists("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")


@cache
def platform() -> str:
    """The platform as recipes write it: `linux-x86_64`, `windows-x86_64`."""
    machine = os.uname().machine if hasattr(os, "uname") else "x86_64"
    return f"{'windows' if sys.platform == 'win32' else sys.platform}-{machine}"


@cache
def cpu_capability() -> str:
    """The instruction set that torch's kernels are held to, since it changes their last bits.

    Workers run with ATEN_CPU_CAPABILITY=avx2 wherever the CPU has AVX2, so that a machine with AVX-512 draws the
    same random weights as one without.
    """
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = file.read()
    except OSError:
        return "default"
    return "avx2" if " avx2" in flags else "default"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that can be had without swapping; a large number where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 1 << 62


def _exists(*paths: str) -> bool:
    return any(os.path.exists(path) for path in paths)
