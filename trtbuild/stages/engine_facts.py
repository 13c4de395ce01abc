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
FLOATS = ("float32", "float64", "float16", "bfloat16", "float8", "float4")
_REDUCED = ("float16", "bfloat16", "float8", "float4")
_WANTED = {"fp16": "float16", "bf16": "bfloat16", "fp16-mixed": "float16", "bf16-mixed": "bfloat16"}

_SHOWN = 12


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


def check_precision(engines: Iterable[Mapping[str, Any]], precision: str) -> dict[str, Any]:
    """What the engines' arithmetic is in, beside what was asked; StageError where these disagree.

    Gives {"asked", "compute": {dtype: layers}, "inputs": {dtype: tensors}, "outputs": {dtype: tensors}}. With fp16 and
    bf16 at least half of the layers that decide must be in it, with mixed precision one, and with fp32 and tf32 at
    least half must be in no less than float32.
    """
    engines = list(engines)
    # Autocast leaves alone what does no such arithmetic: of a network of other layers nothing can be asked.
    deciding = _deciding(engines, others=not precision.endswith("-mixed"))
    compute = _counts(dtype for _, dtype in deciding)
    found = {
        "asked": precision,
        "compute": compute,
        "inputs": _counts(tensor["dtype"] for engine in engines for tensor in engine["inputs"]),
        "outputs": _counts(tensor["dtype"] for engine in engines for tensor in engine["outputs"]),
    }
    if reason := disagreement(compute, precision):
        wanted = _WANTED.get(precision)
        others = [
            f"{layer['name']}: {layer['type']} in {dtype}" for layer, dtype in deciding if _foreign(dtype, wanted)
        ]
        more = [f"... and {len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
        raise StageError(
            "The engine is not in the precision that was asked",
            [
                ("asked", precision),
                ("built", ", ".join(f"{n} x {dtype}" for dtype, n in compute.items())),
                ("reason", reason),
                ("layers", "\n".join([*others[:_SHOWN], *more])),
            ],
            "Does the model cast its own tensors back to float32?"
            if wanted
            else "Does the model cast its own tensors? Then ask for that `precision`.",
        )
    return found


def disagreement(compute: Mapping[str, int], precision: str) -> str:
    """Why counts of layers by dtype are not the precision that was asked; empty where they are or none decides."""
    total = sum(compute.values())
    if not total:
        return ""
    wanted = _WANTED.get(precision)
    if wanted is None:
        reduced = sum(count for dtype, count in compute.items() if _foreign(dtype, None))
        return f"{reduced} of {total} layers are in less than float32" if 2 * reduced > total else ""
    inside = compute.get(wanted, 0)
    if precision.endswith("-mixed"):
        return f"none of {total} layers is in {wanted}" if not inside else ""
    return f"only {inside} of {total} layers are in {wanted}" if 2 * inside < total else ""


def _deciding(engines: Sequence[Mapping[str, Any]], others: bool) -> list[tuple[Mapping[str, Any], str]]:
    """The layers that do the arithmetic, each with its dtype; with `others`, in their absence all that give floats."""
    layers = [layer for engine in engines for layer in engine["layers"]]
    floats = [(layer, next((dtype for dtype in layer["dtypes"] if dtype in FLOATS), "")) for layer in layers]
    known = [(layer, dtype) for layer, dtype in floats if dtype and layer["type"] != "CONSTANT"]
    compute = [(layer, dtype) for layer, dtype in known if layer["type"] in _COMPUTE]
    return compute or (known if others else [])


def _foreign(dtype: str, wanted: str | None) -> bool:
    return dtype in _REDUCED if wanted is None else dtype != wanted


def _counts(dtypes: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(dtypes).items()))
