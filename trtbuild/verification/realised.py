"""What a live engine says of its own types, beside what the recipe asked.

Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html (engine inspector)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trtbuild.stages.engine_facts import FLOATS, disagreement, dtype_name
from trtbuild.verification.results import Differs

# Words that stand for a dtype where an inspector writes "Row major linear FP16 format", or "Half".
_WORDS = {
    "half": "float16",
    "fp16": "float16",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float": "float32",
    "fp32": "float32",
    "float32": "float32",
    "int8": "int8",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
    "fp8": "float8",
    "fp4": "float4",
}


def check_engines(engines: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """{"asked", "inputs", "outputs", "compute"?} of engines that are loaded, each {dtype: how many}.

    `compute` counts layers by the dtype they give, where the inspector tells it. Differs where tensors or layers
    are not in the precision that was asked.
    """
    inputs: Counter[str] = Counter()
    outputs: Counter[str] = Counter()
    compute: Counter[str] = Counter()
    for engine in engines.values():
        for _, dtype, is_input in tensors_of(engine):
            (inputs if is_input else outputs)[dtype] += 1
        compute.update(layer_dtypes(inspected(engine)))
    found = {"asked": precision, "inputs": _sorted(inputs), "outputs": _sorted(outputs)}
    if compute:
        found["compute"] = _sorted(compute)
    # A mixed engine keeps the inputs and outputs of the model.
    told = {"inputs and outputs": {} if precision.endswith("-mixed") else _floats(inputs + outputs)}
    told["layers"] = _floats(compute)
    for what, counts in told.items():
        if counts and disagreement(counts, precision):
            raise Differs(
                "The loaded engine is not in the precision that was asked",
                [
                    ("asked", precision),
                    (what, ", ".join(f"{count} x {dtype}" for dtype, count in counts.items())),
                    ("engines", ", ".join(engines)),
                ],
            )
    return found


def tensors_of(engine: Any) -> Iterator[tuple[str, str, bool]]:
    """Name, dtype and whether it is an input, of every tensor that an engine takes or gives."""
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        yield name, dtype_name(engine.get_tensor_dtype(name)), engine.get_tensor_mode(name).name == "INPUT"


def inspected(engine: Any) -> list[Any]:
    """The layers as the engine's inspector tells them: names, or facts where it was built to tell more."""
    import sys

    trt = sys.modules[type(engine).__module__.split(".")[0]]
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        layers = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return []
    return layers if isinstance(layers, list) else []


def layer_dtypes(layers: Iterable[Any]) -> Iterator[str]:
    """The dtype of each layer's first floating output, of layers whose facts tell one."""
    for layer in layers:
        outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
        told = [_dtype(output) for output in outputs if isinstance(output, dict)]
        if dtype := next((dtype for dtype in told if dtype in FLOATS), None):
            yield dtype


def _dtype(output: Mapping[str, Any]) -> str | None:
    text = str(output.get("Format/Datatype") or output.get("Datatype") or "")
    return next((_WORDS[word] for word in text.lower().replace(",", " ").split() if word in _WORDS), None)


def _floats(counts: Mapping[str, int]) -> dict[str, int]:
    return {dtype: count for dtype, count in sorted(counts.items()) if dtype in FLOATS}


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
