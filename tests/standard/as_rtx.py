"""The compile stage as it is for standard TensorRT, with TensorRT-RTX in its place: same calls, no GPU.

Added is what RTX must be told beside: the GPUs that the engine is for, and what Torch-TensorRT asks a GPU. Standard
TensorRT's switch for Windows is one that RTX does not have, so that a Windows target must fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trtbuild.stages import compile, compile_onnx, compile_torch_tensorrt, gpuless, standard
from trtbuild.worker.job import Job

HERE = "8.9"


def run(job: Job) -> dict[str, Any]:
    """As `stages.compile`, on a machine that seems to have a GPU of 8.9."""
    gpuless.import_torch_tensorrt()
    gpuless._patch_torch([HERE])
    import tensorrt_rtx
    import torch

    torch.cuda.get_device_name = lambda *_: "a GPU"
    original = standard.set_target

    def set_target(trt: Any, config: Any, settings: Mapping[str, Any]) -> None:
        original(trt, config, settings)
        gpuless.set_target(trt, config, [HERE], gpuless.WORKSPACE)

    standard.set_target = vars(compile_torch_tensorrt)["set_target"] = set_target
    compile_onnx._tensorrt = lambda runtime: tensorrt_rtx
    return compile.run(replace(job, details=job.settings["details"]))
