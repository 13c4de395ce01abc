"""Compile with Torch-TensorRT's TorchScript frontend (`ir = "ts"`), on the GPU that the result is for.

The trace is written as TorchScript (see `torchscript`), and the frontend puts engines into it; what comes out is one
TorchScript file, with engines and PyTorch parts in it, and no portable program. Newer Torch-TensorRT may be built
without this frontend, and NVIDIA maintains it no more: it was seen to give wrong numbers, which verification finds.

Source: https://docs.pytorch.org/TensorRT/py_api/ts.html
"""

from __future__ import annotations

import inspect
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.stages.inputs import Spec, tensors
from trtbuild.stages.linux_program import write_torch_program
from trtbuild.stages.torchscript import write_torchscript
from trtbuild.stages.user_code import first_lines
from trtbuild.worker.job import Job

SCRIPT = "program.ts"

# The same setting under the frontend's own name.
_RENAMED = {"truncate_double": "truncate_long_and_double"}

# Values, attributes and lists of values are no work.
_NO_WORK = ("prim::Constant", "prim::GetAttr", "prim::ListConstruct", "prim::ListUnpack", "prim::TupleConstruct")


def compile_torchscript(job: Job) -> dict[str, Any]:
    """Write `program.ts` and return the report. StageError where this Torch-TensorRT has no such frontend."""
    import torch

    torch_tensorrt = _frontend()
    script = _script(job)
    options = _options(job.settings, inspect.signature(torch_tensorrt.ts.compile).parameters)
    try:
        with torch.no_grad():
            module = torch_tensorrt.ts.compile(script, inputs=_inputs(torch_tensorrt, job.settings), **options)
    except Exception as error:
        raise StageError(
            "Torch-TensorRT's TorchScript frontend cannot compile the program",
            [("raised", first_lines(error, 12))],
            'Its successor takes more models: remove `ir` from [compile], or set `ir = "dynamo"`.',
        ) from error
    torch.jit.save(module, job.out / SCRIPT)
    ops = Counter(node.kind() for node in module.graph.nodes() if node.kind() not in _NO_WORK)
    engines = ops.pop("tensorrt::execute_engine", 0)
    left = [{"op": op, "count": count, "reason": "the frontend left it"} for op, count in sorted(ops.items())]
    if not engines:
        shown = "\n".join(f"{part['op']} x {part['count']}" for part in left)
        raise StageError(
            "Nothing of the model would run in TensorRT",
            [("in PyTorch", shown)],
            "A block of fewer ops than min_block_size in [compile] stays in PyTorch; with 1 none is too small.",
        )
    return {
        "engines": [],
        "partitions": {"tensorrt": [{"engine": f"engine {n}", "ops": {}} for n in range(engines)], "pytorch": left},
        "whole": None,
        "script": SCRIPT,
        "compiled_on": ".".join(map(str, torch.cuda.get_device_capability())),
    }


def _frontend() -> Any:
    import torch

    if not torch.cuda.is_available():
        raise StageError(
            "The TorchScript frontend compiles on the GPU that the result is for, and there is none", [("ir", "ts")]
        )
    import torch_tensorrt

    features = torch_tensorrt._features.ENABLED_FEATURES
    if not getattr(features, "torchscript_frontend", False) or not hasattr(torch_tensorrt, "ts"):
        raise StageError(
            "This Torch-TensorRT was built without its TorchScript frontend",
            [("Torch-TensorRT", torch_tensorrt.__version__)],
            'Remove `ir` from [compile], or set `ir = "dynamo"`.',
        )
    return torch_tensorrt


def _script(job: Job) -> Any:
    """The trace as TorchScript on the GPU."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        program, script = Path(folder, "program.pt2"), Path(folder, SCRIPT)
        write_torch_program(job.inputs["program"]["program.pt2"], "cuda", {}, program)
        write_torchscript(torch.export.load(program), {}, script)
        return torch.jit.load(script)


def _options(settings: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The frontend's arguments. StageError names settings that only its successor has."""
    import torch

    given = {_RENAMED.get(name, name): value for name, value in settings["options"].items()}
    if foreign := sorted(name for name in settings["options"] if _RENAMED.get(name, name) not in known):
        raise StageError(
            "The TorchScript frontend has not every setting of its successor",
            [("not there", ", ".join(foreign))],
            "Remove them from [compile].",
        )
    if "torch_executed_ops" in given:
        given["torch_executed_ops"] = [_op_name(name) for name in given["torch_executed_ops"]]
    precision = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(settings["precision"], torch.float32)
    # Indices are 64 bit in PyTorch, where TensorRT has 32.
    return {
        "truncate_long_and_double": True,
        **given,
        "enabled_precisions": {precision},
        "disable_tf32": settings["precision"] != "tf32",
    }


def _op_name(name: str) -> str:
    """An op as the frontend names it: torch.ops.aten.relu.default -> aten::relu."""
    parts = name.removeprefix("torch.ops.").replace("::", ".").split(".")
    return "::".join(parts[:2])


def _inputs(torch_tensorrt: Any, settings: Mapping[str, Any]) -> list[Any]:
    import torch

    dims = settings["dims"]

    def shape(spec: Spec, bound: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else dims[size][bound] for size in spec["shape"])

    def given(spec: Spec) -> Any:
        dtype = getattr(torch, spec["dtype"])
        low, opt, high = (shape(spec, bound) for bound in ("min", "opt", "max"))
        if low == high:
            return torch_tensorrt.Input(shape=opt, dtype=dtype)
        return torch_tensorrt.Input(min_shape=low, opt_shape=opt, max_shape=high, dtype=dtype)

    return [given(spec) for group in settings["inputs"] for spec in tensors(group)]
