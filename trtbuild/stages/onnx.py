"""ONNX: a trace as an ONNX model, by torch's dynamo exporter, with the recipe's names for dims.

Source: https://docs.pytorch.org/docs/stable/onnx_export.html
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.stages.inputs import tensors
from trtbuild.stages.user_code import first_lines
from trtbuild.worker.job import Job

# protobuf refuses messages of 2 GiB; weights beyond this lie in a file of their own.
_INLINE_BYTES = 1 << 30


def run(job: Job) -> dict[str, Any]:
    """Write `model.onnx`, and `model.onnx.data` where the weights are large. Details: opset, inputs and outputs."""
    import torch

    settings = job.settings
    program = torch.export.load(job.inputs["program"]["program.pt2"])
    names = list(program.graph_signature.user_inputs)
    outputs = [f"output{index}" for index in range(len(program.graph_signature.user_outputs))]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    path = job.out / "model.onnx"
    try:
        torch.onnx.export(
            program,
            (),
            str(path),
            dynamo=True,
            verbose=False,
            opset_version=settings["opset"],
            input_names=names,
            output_names=outputs,
            external_data=weights > _INLINE_BYTES,
        )
    except Exception as error:
        raise _cannot_export(error) from error
    opset = _name_dims(path, program, settings)
    return {"opset": opset, "inputs": names, "outputs": outputs}


def _cannot_export(error: BaseException) -> StageError:
    deepest = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    return StageError(
        "The program cannot be expressed in ONNX",
        [("torch says", first_lines(deepest, 8))],
        "ONNX has no op for part of the model. Formats other than `onnx` do not need it,\n"
        'nor does an engine with `converter = "torch-tensorrt"` in [compile].',
    )


def _name_dims(path: Path, program: Any, settings: Mapping[str, Any]) -> int:
    """Write the recipe's names where torch wrote symbols, check the model, return its opset."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    flat = [spec for group in settings["inputs"] for spec in tensors(group)]
    specs = dict(zip(program.graph_signature.user_inputs, flat, strict=True))
    renamed: dict[str, str] = {}
    for value in model.graph.input:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param and isinstance(name := specs[value.name]["shape"][axis], str):
                renamed[size.dim_param] = name
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in renamed:
                size.dim_param = renamed[size.dim_param]
    onnx.save(model, path)
    onnx.checker.check_model(str(path))
    return next(int(used.version) for used in model.opset_import if used.domain in ("", "ai.onnx"))
