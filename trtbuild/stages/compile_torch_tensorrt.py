"""Compile with Torch-TensorRT's dynamo front end: TensorRT-RTX without a GPU, standard TensorRT on the one it has.

Source: https://docs.pytorch.org/TensorRT/dynamo/dynamo_export.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trtbuild.digest import digest_bytes
from trtbuild.errors import StageError
from trtbuild.stages.bounds import Bounds, bounds_of
from trtbuild.stages.inputs import Spec, map_tensors, split
from trtbuild.stages.partitions import left_to_pytorch, ops_of, whole_engine
from trtbuild.stages.sizes import settle_sizes
from trtbuild.stages.standard import for_several, set_target
from trtbuild.stages.user_code import first_lines
from trtbuild.worker.job import Job

_MIXED = {"fp16-mixed": "float16", "bf16-mixed": "bfloat16"}


def compile_torch_tensorrt(job: Job) -> dict[str, Any]:
    """Write engines and `program.pt2`; return the report."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    settings = job.settings
    program = torch.export.load(job.inputs["program"]["program.pt2"])
    source = program.module()
    signature = program.graph_signature
    bounds = bounds_of(program, settings)
    options = _options(settings)
    built = _prepare(settings, bounds, options)
    parts = _record_parts()
    try:
        # Traced on a CPU, attention decomposes to the CPU's own kernel, which has no converter; the plain formula has.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            module = _dynamo().compile(program, **_inputs(settings), **options)
    except Exception as error:
        raise _failed(error, built) from error
    if built.errors:
        raise _logged(built.errors)
    engines = _write_engines(job, module, built.facts)
    names = {engine["name"]: [output["name"] for output in engine["outputs"]] for engine in engines}
    report = {
        "engines": engines,
        "partitions": {
            "tensorrt": [{"engine": name, "ops": dict(sorted(ops.items()))} for name, ops in parts.items()],
            "pytorch": left_to_pytorch(module, options.get("torch_executed_ops", ()), options.get("min_block_size", 5)),
        },
        "whole": whole_engine(module, names),
        "user_inputs": list(signature.user_inputs),
    }
    if engines:
        _write_program(job, module, source, settings)
    return report


def _dynamo() -> Any:
    import torch_tensorrt

    return torch_tensorrt.dynamo


def _prepare(settings: Mapping[str, Any], bounds: Bounds, options: Mapping[str, Any]) -> Any:
    """Answer for the target's GPU; standard TensorRT builds on the GPU it has."""
    from trtbuild.stages.gpuless import answer_for, configure_with

    if settings["runtime"] == "tensorrt":
        import torch_tensorrt  # noqa: F401

        return configure_with(lambda trt, config: set_target(trt, config, settings), bounds)
    return answer_for(settings["compute_capability"], bounds, options.get("workspace_size", 0))


def _options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of torch_tensorrt.dynamo.compile: the recipe's settings, and what the precision means."""
    import torch

    options: dict[str, Any] = dict(settings["options"])
    if settings["runtime"] == "tensorrt" and for_several(settings):
        options["hardware_compatible"] = True
    # TF32 is on by default and keeps ten bits of a mantissa: `fp32` means float32.
    options["disable_tf32"] = settings["precision"] != "tf32"
    if low := _MIXED.get(settings["precision"]):
        options |= {"enable_autocast": True, "autocast_low_precision_type": getattr(torch, low)}
    for name in (
        "torch_executed_ops",
        "autocast_excluded_nodes",
        "autocast_excluded_ops",
        "disabled_constant_fold_exclusions",
    ):
        if name in options:
            options[name] = set(options[name])
    # The default lies in the temporary folder, and is written into the program.
    options["timing_cache_path"] = os.devnull
    return options


def _inputs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """arg_inputs and kwarg_inputs of the compiler, with min, opt and max of every dim."""
    import torch
    import torch_tensorrt

    dims = settings["dims"]
    profiles = [dims, *settings["profiles"]]

    def shapes(spec: Spec, of: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {
            f"{bound}_shape": tuple(size if isinstance(size, int) else of[size][bound] for size in spec["shape"])
            for bound in ("min", "opt", "max")
        }

    def tensor(spec: Spec) -> Any:
        dtype = getattr(torch, spec["dtype"])
        varies = any(isinstance(size, str) and dims[size]["min"] != dims[size]["max"] for size in spec["shape"])
        if not varies:
            return torch_tensorrt.Input(shape=shapes(spec, dims)["opt_shape"], dtype=dtype)
        if len(profiles) > 1:
            return torch_tensorrt.Input(profiles=[shapes(spec, of) for of in profiles], dtype=dtype)
        return torch_tensorrt.Input(**shapes(spec, dims), dtype=dtype)

    positional, keyword = split(settings["inputs"])
    return {
        "arg_inputs": [map_tensors(spec, tensor) for spec in positional],
        "kwarg_inputs": {name: map_tensors(spec, tensor) for name, spec in keyword.items()},
    }


def _record_parts() -> dict[str, Any]:
    """Count the ops of every part that is converted, before an engine takes its place."""
    from torch_tensorrt.dynamo import _compiler

    parts: dict[str, Any] = {}
    convert = _compiler.convert_module

    def counting(module: Any, *args: Any, name: str = "", **options: Any) -> Any:
        parts[name] = ops_of(module.graph)
        return convert(module, *args, name=name, **options)

    _compiler.convert_module = counting
    return parts


def _failed(error: Exception, built: Any) -> StageError:
    if isinstance(error, StageError):
        return error
    if built.errors:
        return _logged(built.errors)
    return StageError("Torch-TensorRT cannot compile the program", [("raised", first_lines(error, 12))])


def _logged(errors: list[str]) -> StageError:
    return StageError(
        "TensorRT reported an error while it built an engine", [("TensorRT", "\n".join(dict.fromkeys(errors)))]
    )


def _write_engines(job: Job, module: Any, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    engines = []
    for name, child in module.named_children():
        data = getattr(child, "serialized_engine", None)
        if data is None:
            continue
        (job.out / "engines" / f"{name}.engine").write_bytes(data)
        known = facts[digest_bytes(data)]
        known["inputs"].sort(key=lambda tensor: child.input_binding_names.index(tensor["name"]))
        known["outputs"].sort(key=lambda tensor: child.output_binding_names.index(tensor["name"]))
        engines.append({"name": name, "file": f"engines/{name}.engine", **known})
    return engines


def _write_program(job: Job, module: Any, source: Any, settings: Mapping[str, Any]) -> None:
    """Save the program with references in place of engines, under the model's own signature."""
    import torch
    from torch_tensorrt.dynamo._exporter import export

    from trtbuild.stages.placeholders import hardware_compatible, pack_engines_as_references

    pack_engines_as_references()
    settle_sizes(module)
    standard = settings["runtime"] == "tensorrt"
    compatible = for_several(settings) if standard else hardware_compatible(settings["compute_capability"])
    for child in module.children():
        if hasattr(child, "serialized_engine"):
            child.hardware_compatible = compatible
    # The compiler leaves a plain code generator behind; the exporter would then write a flat, positional signature.
    module.graph.set_codegen(source.graph._codegen)
    program = export(module, cross_compile_module=True, use_legacy_exporter=True)
    for node in program.graph.nodes:
        node.meta.pop("from_node", None)
    torch.export.save(program, job.out / "program.pt2")
