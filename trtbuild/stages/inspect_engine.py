"""Inspect: what the engines of an artifact say of themselves on a GPU.

Settings and slots are those of a verify step. Details:

    {"on": {"device", "compute_capability", "driver"?, "versions"}, "engines": [{
        "name", "tells": "layers" where it was built to tell of them in detail, else "names",
        "layers": [{"name", "type"?, "tactic"?, "stream"?, "inputs"?: [tensor], "outputs"?: [tensor]}],
        "tensors": [{"name", "input": bool, "dtype", "shape", "format", "on_host": bool}],
        "profiles": [{input: [min, opt, max]}], "aux_streams", "memory_bytes": activations of all profiles,
        "profile_memory_bytes": [of each], "weights_bytes", "streamable_weights_bytes", "refittable"}]}

TensorRT-RTX 1.4 tells names alone at its default verbosity: of fused layers, whose kernels are made on the GPU at the
first call. Source: IEngineInspector and ICudaEngine of TensorRT's Python API,
https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/EngineInspector.html
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trtbuild.errors import StageError
from trtbuild.stages.engine_facts import dtype_name
from trtbuild.verification.opening import open_artifact
from trtbuild.verification.place import this_place
from trtbuild.worker.job import Job

# "[CONVOLUTION]-[aten_ops.convolution.default]-[layer4/convolution_19]_myl0_34", "__myl_CorrMulAddRelu_myl0_2"
_OWN_TYPE = re.compile(r"\[([A-Z_]+)\]-\[")
_FUSED = re.compile(r"__myl_(\w+?)_myl\d+_\d+$")


def run(job: Job) -> dict[str, Any]:
    """Open the artifact and ask its engines. StageError where none is ours to see."""
    signature, made = job.details["program"]["signature"], job.details["artifact"]
    engines = open_artifact(job.settings, job.options, job.inputs["artifact"], signature, made).engines
    if not engines:
        raise StageError(
            "The artifact has no engines that can be inspected",
            [("format", str(job.settings["format"])), ("runtime", str(job.settings["runtime"]))],
            "Where Torch-TensorRT runs the engines it keeps them to itself: inspect the raw engine instead.",
        )
    return {"on": this_place("cuda"), "engines": [engine_facts(name, engine) for name, engine in engines.items()]}


def engine_facts(name: str, engine: Any) -> dict[str, Any]:
    """All that a live engine tells. What it does not know, or what this TensorRT has no name for, is left out."""
    trt = sys.modules[type(engine).__module__.split(".")[0]]
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers = layers_of(text)
    profiles = range(engine.num_optimization_profiles)
    tensors = list(_tensors(engine))
    facts: dict[str, Any] = {
        "name": name,
        "tells": "layers" if any("outputs" in layer for layer in layers) else "names",
        "layers": layers,
        "tensors": tensors,
        "profiles": [_ranges(engine, tensors, profile) for profile in profiles],
    }
    known: dict[str, Callable[[], Any]] = {
        "aux_streams": lambda: engine.num_aux_streams,
        "memory_bytes": lambda: engine.device_memory_size_v2,
        "profile_memory_bytes": lambda: [engine.get_device_memory_size_for_profile_v2(p) for p in profiles],
        "weights_bytes": lambda: engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE),
        "streamable_weights_bytes": lambda: engine.streamable_weights_size,
        "refittable": lambda: engine.refittable,
    }
    for key, ask in known.items():
        with contextlib.suppress(AttributeError, RuntimeError):
            facts[key] = ask()
    return facts


def layers_of(text: str) -> list[dict[str, Any]]:
    """The layers in an inspector's JSON: names alone, or facts of each. Empty where it is no such JSON."""
    try:
        told = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return []
    return [_layer(layer) for layer in told if isinstance(layer, (str, dict))]


def _layer(told: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(told, str):
        return {"name": told, **_type_of(told)}
    name = str(told.get("Name", ""))
    layer: dict[str, Any] = {"name": name}
    layer |= {"type": str(told["LayerType"])} if told.get("LayerType") else _type_of(name)
    for key, theirs in (("tactic", "TacticName"), ("tactic", "TacticValue"), ("stream", "StreamId")):
        if told.get(theirs) not in (None, ""):
            layer.setdefault(key, told[theirs])
    for key, theirs in (("inputs", "Inputs"), ("outputs", "Outputs")):
        if isinstance(told.get(theirs), list):
            layer[key] = [_end(tensor) for tensor in told[theirs] if isinstance(tensor, dict)]
    return layer


def _type_of(name: str) -> dict[str, str]:
    """The type that a layer's name holds: that of the network's layer, or of the ops that were fused to it."""
    found = _OWN_TYPE.match(name) or _FUSED.match(name)
    return {"type": found[1]} if found else {}


def _end(tensor: Mapping[str, Any]) -> dict[str, Any]:
    kept = {"name": "Name", "shape": "Dimensions", "format": "Format/Datatype"}
    return {key: tensor[theirs] for key, theirs in kept.items() if theirs in tensor}


def _tensors(engine: Any) -> Iterator[dict[str, Any]]:
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        yield {
            "name": name,
            "input": engine.get_tensor_mode(name).name == "INPUT",
            "dtype": dtype_name(engine.get_tensor_dtype(name)),
            "shape": list(engine.get_tensor_shape(name)),
            "format": engine.get_tensor_format_desc(name),
            "on_host": engine.get_tensor_location(name).name == "HOST",
        }


def _ranges(engine: Any, tensors: list[dict[str, Any]], profile: int) -> dict[str, list[list[int]]]:
    return {
        tensor["name"]: [list(shape) for shape in engine.get_tensor_profile_shape(tensor["name"], profile)]
        for tensor in tensors
        if tensor["input"] and -1 in tensor["shape"]
    }
