"""The GPUs of this machine, as the driver names them; nothing here imports a library or wakes a GPU."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ASK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU; what the driver does not tell is empty."""

    name: str
    compute_capability: str = ""
    driver: str = ""


@cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs as the driver's tool names them; without it as its files or the device nodes number them."""
    asked = ask("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
    rows = [[cell.strip() for cell in line.split(",")] for line in asked.splitlines()]
    if found := tuple(Gpu(*row) for row in rows if len(row) == 3):
        return found
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [re.search(r"^Model:\s*(.+)$", read(file), re.MULTILINE) for file in files]
    if models:
        driver = re.search(r"Kernel Module\D*([\d.]+)", read(Path("/proc/driver/nvidia/version")))
        version = driver[1] if driver else ""
        return tuple(Gpu(model[1].strip() if model else "NVIDIA GPU", driver=version) for model in models)
    nodes = sorted(node.name for node in Path("/dev").glob("nvidia[0-9]*"))
    return tuple(Gpu(f"NVIDIA GPU at /dev/{node}") for node in nodes)


def ask(*command: str) -> str:
    """What a command prints; empty where it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def read(path: Path) -> str:
    """A file's text; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
