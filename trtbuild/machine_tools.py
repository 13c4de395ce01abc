"""What of this machine, beside its packages, shapes what some stages write: the GPU that they run on, the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from trtbuild.digest import Json
from trtbuild.stages.table import layer_of


def machine_tools(kind: str, settings: Mapping[str, Json]) -> dict[str, str]:
    """What enters the key of a stage with these settings; nothing where it writes the same on every machine."""
    found: dict[str, str] = {}
    if layer_of(kind, settings) == "gpu":
        found |= _gpu()
    if settings.get("format") == "aot_inductor":
        found["c++"] = _compiler()
    return found


@cache
def _gpu() -> dict[str, str]:
    from trtbuild.gpus import gpus

    # The first GPU is the one that is used.
    gpu = next(iter(gpus()), None)
    if gpu is None:
        return {}
    return {"gpu": f"{gpu.name}, compute capability {gpu.compute_capability}", "driver": gpu.driver}


@cache
def _compiler() -> str:
    from trtbuild.gpus import ask

    # As torch looks for it where no other is named: workers see no CXX.
    return (ask("g++", "--version").splitlines() or ["none"])[0]
