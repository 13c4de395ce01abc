"""Compile: a trace as a portable compiled program, its engines beside it, by either converter.

Outputs: `engines/<name>.engine`; `report.json` (see below); with Torch-TensorRT also `program.pt2`.

    report.json {"converter", "runtime", "compute_capability", "precision",
                 "engines": [{"name", "file", "inputs", "outputs", "layers", "ranges"}],
                 "partitions": {"tensorrt": [{"engine", "ops"}], "pytorch": [{"op", "count", "reason"}]},
                 "whole": {"engine", "inputs", "outputs"} or null,
                 "realised": {"asked", "compute", "inputs", "outputs"}}
"""

from __future__ import annotations

from typing import Any

from trtbuild.errors import StageError
from trtbuild.files import write_json
from trtbuild.stages.engine_facts import check_precision, layer_types
from trtbuild.worker.job import Job


def run(job: Job) -> dict[str, Any]:
    """Compile. Details: the report without the layers, which are counted by type."""
    if job.settings.get("ir") == "ts":
        from trtbuild.stages.compile_torchscript import compile_torchscript

        return _written(job, compile_torchscript(job))
    (job.out / "engines").mkdir()
    if job.settings["converter"] == "onnx":
        from trtbuild.stages.compile_onnx import compile_onnx

        report = compile_onnx(job)
    elif job.settings.get("ir") == "ts":
        from trtbuild.stages.compile_torchscript import compile_torchscript

        return _written(job, compile_torchscript(job))
    else:
        from trtbuild.stages.compile_torch_tensorrt import compile_torch_tensorrt

        report = compile_torch_tensorrt(job)
    if not report["engines"]:
        raise StageError(
            "Nothing of the model would run in TensorRT",
            [
                (
                    "in PyTorch",
                    "\n".join(
                        f"{part['op']} x {part['count']}: {part['reason']}" for part in report["partitions"]["pytorch"]
                    ),
                )
            ],
            "A block of fewer ops than min_block_size in [compile] stays in PyTorch; with 1 none is too small.",
        )
    report["realised"] = check_precision(report["engines"], job.settings["precision"])
    return _written(job, report)


def _written(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    report |= {key: job.settings[key] for key in ("converter", "runtime", "compute_capability", "precision")}
    write_json(job.out / "report.json", report)
    engines = [
        {**{k: v for k, v in engine.items() if k != "layers"}, "layer_types": layer_types(engine["layers"])}
        for engine in report["engines"]
    ]
    return {**report, "engines": engines}
