"""What is known of an engine from the network it was built from, and whether its types are those that were asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trtbuild.errors import StageError

# Where the arithmetic is: the layers whose type decides what a precision is worth.
_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", "ATTENTION_INPUT")

# Those whose lower-case name is not torch's.
_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8", "FP4": "float4"}
_WANTED = {"fp16": "float16", "bf16": "bfloat16", "fp16-mixed": "float16", "bf16-mixed": "bfloat16"}


def dtype_name(dtype: Any) -> str:
    """TensorRT's data type by torch's name."""
    return _NAMES.get(dtype.name) or str(dtype.name).lower()


def network_facts(network: Any, profiles: Sequence[Any]) -> dict[str, Any]:
    """Inputs, outputs and layers of a network: names, dtypes, shapes (-1 where a size varies).

    `ranges` holds, for each optimisation profile, min, opt and max shape of every input that varies.
    """
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        types = [
            dtype_name(layer.get_output(i).dtype) for i in range(layer.num_outputs) if layer.get_output(i) is not None
        ]
        layers.append({"name": layer.name, "type": layer.type.name, "dtypes": types})
    return {
        "inputs": [_tensor(t) for t in inputs],
        "outputs": [_tensor(t) for t in outputs],
        "layers": layers,
        "ranges": [
            {tensor.name: _shapes(profile, tensor) for tensor in inputs if _varies(tensor)} for profile in profiles
        ],
    }


def _varies(tensor: Any) -> bool:
    return -1 in tuple(tensor.shape)


def _shapes(profile: Any, tensor: Any) -> list[list[int]]:
    return [list(shape) for shape in profile.get_shape(tensor.name)]


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}


def layer_types(layers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many layers there are of each type and dtype, as "CONVOLUTION float16"."""
    return dict(
        sorted(Counter(f"{layer['type']} {'/'.join(sorted(set(layer['dtypes'])))}".strip() for layer in layers).items())
    )


def check_precision(engines: Iterable[Mapping[str, Any]], precision: str) -> None:
    """StageError where a reduced precision was asked and no arithmetic of the engines is in it."""
    wanted = _WANTED.get(precision)
    if wanted is None:
        return
    compute = [layer for engine in engines for layer in engine["layers"] if layer["type"] in _COMPUTE]
    if compute and not any(wanted in layer["dtypes"] for layer in compute):
        raise StageError(
            "The engine is not in the precision that was asked",
            [("asked", precision), ("built", ", ".join(f"{n} x {t}" for t, n in layer_types(compute).items()))],
            "Does the model cast its own tensors back to float32?",
        )
