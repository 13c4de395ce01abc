"""Compile by TensorRT's ONNX parser: the whole graph as one engine, or an error that lists the ops in the way.

Source: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/ (C++ and Python API, CPU-Only AOT)
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.stages import standard
from trtbuild.stages.engine_facts import network_facts
from trtbuild.stages.gpuless import NETWORK_NAME, WORKSPACE, set_target
from trtbuild.stages.inputs import tensors
from trtbuild.worker.job import Job

_NAME = "model"


def compile_onnx(job: Job) -> dict[str, Any]:
    """Write the engine; return the report."""
    settings = job.settings
    trt = _tensorrt(settings["runtime"])
    errors: list[str] = []
    logger = _logger(trt, errors)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, settings["runtime"]))
    network.name = NETWORK_NAME
    path = _as_written(job.inputs["onnx"])
    ops = _parse(trt, network, logger, path, errors)
    config = builder.create_builder_config()
    profiles = _configure(trt, builder, network, config, settings, job.details["onnx"]["inputs"])
    engine = builder.build_serialized_network(network, config)
    if engine is None or errors:
        raise StageError(
            "TensorRT reported an error while it built the engine", [("TensorRT", "\n".join(dict.fromkeys(errors)))]
        )
    with (job.out / "engines" / f"{_NAME}.engine").open("wb") as file:
        file.write(memoryview(engine))
    facts = network_facts(network, profiles)
    return {
        "engines": [{"name": _NAME, "file": f"engines/{_NAME}.engine", **facts}],
        "partitions": {"tensorrt": [{"engine": _NAME, "ops": ops}], "pytorch": []},
        "whole": {
            "engine": _NAME,
            "inputs": [tensor["name"] for tensor in facts["inputs"]],
            "outputs": [tensor["name"] for tensor in facts["outputs"]],
        },
        "user_inputs": list(job.details["onnx"]["inputs"]),
    }


def _as_written(outputs: Mapping[str, Path]) -> Path:
    """The model under its own name beside its weights: it names the file of large weights, and blobs have no names."""
    folder = Path(tempfile.mkdtemp())
    for name, blob in outputs.items():
        try:
            (folder / name).hardlink_to(blob)
        except OSError:
            shutil.copyfile(blob, folder / name)
    return folder / "model.onnx"


def _tensorrt(runtime: str) -> Any:
    if runtime == "tensorrt":
        import tensorrt

        return tensorrt
    import tensorrt_rtx

    return tensorrt_rtx


def _logger(trt: Any, errors: list[str]) -> Any:
    severe = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Prints what TensorRT says and keeps its errors: its Python binding often reports them in no other way."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                errors.append(message)
            if severity != trt.ILogger.Severity.VERBOSE:
                print(f"[TensorRT] {severity.name}: {message}", flush=True)

    return Logger()


def _network_flags(trt: Any, runtime: str) -> int:
    # RTX networks are always strongly typed; before TensorRT 11 the flag says so.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None) if runtime == "tensorrt" else None
    return 0 if flag is None else 1 << int(flag)


def _parse(trt: Any, network: Any, logger: Any, path: Path, errors: list[str]) -> dict[str, int]:
    """Parse the model into the network; return how often each op occurs."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    ops = dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        in_the_way = [f"{error.node_operator() or '?'} ({error.node_name() or '?'}): {error.desc()}" for error in found]
        raise StageError(
            "TensorRT's ONNX parser cannot take the model",
            [("ops in the way", "\n".join(dict.fromkeys(in_the_way)) or "\n".join(dict.fromkeys(errors)))],
            'With `converter = "torch-tensorrt"` in [compile] such ops stay in PyTorch.',
        )
    return ops


def _configure(
    trt: Any, builder: Any, network: Any, config: Any, settings: Mapping[str, Any], names: list[str]
) -> list[Any]:
    """Set the config up for the target; return the optimisation profiles."""
    options = settings["options"]
    if settings["runtime"] == "tensorrt-rtx":
        set_target(trt, config, settings["compute_capability"], options.get("workspace_size") or WORKSPACE)
    else:
        standard.set_target(trt, config, settings)
    if settings["precision"] != "tf32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if "optimization_level" in options:
        config.builder_optimization_level = options["optimization_level"]
    if "max_aux_streams" in options:
        config.max_aux_streams = options["max_aux_streams"]
    if options.get("sparse_weights"):
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if options.get("enable_weight_streaming"):
        config.set_flag(trt.BuilderFlag.WEIGHT_STREAMING)
    specs = dict(zip(names, (s for g in settings["inputs"] for s in tensors(g)), strict=True))
    dims = settings["dims"]
    profiles: list[Any] = []
    dynamic = any(-1 in tuple(network.get_input(i).shape) for i in range(network.num_inputs))
    for of in [dims, *settings["profiles"]] if dynamic else []:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            if -1 in tuple(tensor.shape):
                profile.set_shape(tensor.name, *_shapes(specs[tensor.name]["shape"], of))
        config.add_optimization_profile(profile)
        profiles.append(profile)
    return profiles


def _shapes(shape: list[int | str], dims: Mapping[str, Any]) -> list[list[int]]:
    return [[size if isinstance(size, int) else dims[size][bound] for size in shape] for bound in ("min", "opt", "max")]
