"""What a live engine says of its own types, beside what the recipe asked.

Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html (engine inspector)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
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


def check_engines(engines: Mapping[str, Any], precision: str, signature: Collection[str]) -> dict[str, Any]:
    """{"asked", "inputs", "outputs", "compute"?} of engines that are loaded, each {dtype: how many}.

    `compute` counts layers by the dtype they give, where the inspector tells it. `signature` has the dtypes of the
    program's own inputs and outputs. Differs where the layers are not in the precision that was asked, or where the
    program takes or gives tensors in it and the engines do not.
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
    # A model may turn what it gives to float32 itself, and a mixed engine keeps what the model takes and gives: such
    # a program says so itself.
    program = {dtype: 1 for dtype in signature if dtype in FLOATS}
    told = {"inputs and outputs": inputs + outputs} if not disagreement(program, precision) else {}
    if precision.endswith("-mixed"):
        told = {}
    for what, counts in {**told, "layers": compute}.items():
        floats = {dtype: count for dtype, count in sorted(counts.items()) if dtype in FLOATS}
        # Of tensors one in it is enough: how many a model gives in float32 besides is its own affair.
        judged = floats if what == "layers" else dict.fromkeys(floats, 1)
        if disagreement(judged, precision):
            raise Differs(
                "The loaded engine is not in the precision that was asked",
                [
                    ("asked", precision),
                    (what, ", ".join(f"{count} x {dtype}" for dtype, count in floats.items())),
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

    trt = sys.modules[type(engine).__module__]
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


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
