"""What builds the artifacts: versions of the packages, read from their metadata folders without importing any.

`importlib.metadata` answers the same and costs more than the rest of a run that has nothing to do.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.(?:dist|egg)-info")

# The library itself decides what an engine looks like; its wheel is named by CUDA generation, the umbrella package
# only points to it.
_TENSORRT_RTX = (
    "tensorrt-rtx-cu13-libs",
    "tensorrt-rtx-cu12-libs",
    "tensorrt-rtx-cu13-bindings",
    "tensorrt-rtx-cu12-bindings",
    "tensorrt-rtx",
)
_TENSORRT = ("tensorrt-cu13-libs", "tensorrt-cu12-libs", "tensorrt-cu13", "tensorrt-cu12", "tensorrt")


def normal_name(name: str) -> str:
    """A distribution's name in its one normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def distributions() -> Mapping[str, str]:
    """Version of every installed distribution by normal name, the first on sys.path winning."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in sorted(entries):
            if entry.endswith("-info") and (match := _DIST_INFO.fullmatch(entry)):
                found.setdefault(normal_name(match["name"]), match["version"])
    return found


def _first(names: Iterable[str]) -> str | None:
    installed = distributions()
    return next((installed[name] for name in names if name in installed), None)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Versions of what the stages use; None where it is not installed."""

    python: str
    torch: str | None
    torch_tensorrt_rtx: str | None
    torch_tensorrt: str | None
    tensorrt_rtx: str | None
    tensorrt: str | None
    onnx: str | None
    onnxscript: str | None
    onnx_ir: str | None
    onnxruntime: str | None

    def versions(self, names: Iterable[str]) -> dict[str, str | None]:
        """The part of the toolchain that enters a key, under the names users know."""
        return {name: getattr(self, name.replace("-", "_")) for name in names}


@cache
def toolchain() -> Toolchain:
    """The toolchain of this environment."""
    return Toolchain(
        python=f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}",
        torch=_first(["torch"]),
        torch_tensorrt_rtx=_first(["torch-tensorrt-rtx"]),
        torch_tensorrt=_first(["torch-tensorrt"]),
        tensorrt_rtx=_first(_TENSORRT_RTX),
        tensorrt=_first(_TENSORRT),
        onnx=_first(["onnx"]),
        onnxscript=_first(["onnxscript"]),
        onnx_ir=_first(["onnx-ir"]),
        onnxruntime=_first(["onnxruntime", "onnxruntime-gpu"]),
    )
