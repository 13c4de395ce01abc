"""Whether this machine can compare an artifact with its source model, and where not, what that needs.

Asked of the settings of a `verify` step, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from trtbuild.digest import Json
from trtbuild.gpus import gpus
from trtbuild.host import has_gpu, platform
from trtbuild.stages.table import on_cpu
from trtbuild.toolchain import distributions


def why_not_here(settings: Mapping[str, Json], *, other_gpu: bool = False) -> str:
    """Why an artifact cannot be verified here; empty where it can.

    `other_gpu`: a GPU will do although the target does not name its compute capability.
    """
    if settings["format"] == "onnx":
        return _of_onnx(settings)
    if not str(platform()).startswith("linux"):
        return f"artifacts are verified on Linux, and this machine is {platform()}"
    if settings["runtime"] == "tensorrt" and str(settings["platform"]).startswith("windows"):
        return "standard TensorRT's engines for Windows run on Windows alone"
    return "" if on_cpu(settings) else _of_gpus(settings, other_gpu)


def _of_onnx(settings: Mapping[str, Json]) -> str:
    if "onnxruntime" not in distributions() and "onnxruntime-gpu" not in distributions():
        return "that needs onnxruntime (pip install 'trtbuild[onnx]')"
    if settings["precision"] == "bf16":
        return "onnxruntime computes no bfloat16 on a CPU"
    return ""


def _of_gpus(settings: Mapping[str, Json], other_gpu: bool) -> str:
    if not has_gpu():
        return "that needs a GPU, and there is none here"
    wanted = settings.get("compute_capability")
    if other_gpu or not isinstance(wanted, list) or not wanted:
        return ""
    # The first GPU is the one that is used; a driver that does not tell leaves it to the loader to ask.
    found = next((gpu for gpu in gpus() if gpu.compute_capability), None)
    if found is None or found.compute_capability in wanted:
        return ""
    built_for = ", ".join(map(str, wanted))
    return f"that needs a GPU of compute capability {built_for}, and here is {found.compute_capability} ({found.name})"
