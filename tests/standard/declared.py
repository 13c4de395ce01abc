"""What the code calls TensorRT's objects: types for names that it takes as Any, since two flavours go by them.

By file, and there by "function.name", or "function.return" for what it gives back. Names of modules of TensorRT itself
are `trt` everywhere. What the code derives of these names mypy infers.
"""

from __future__ import annotations

from dataclasses import dataclass

_ENGINE, _CONTEXT = "_trt.ICudaEngine", "_trt.IExecutionContext"

TYPES: dict[str, dict[str, str]] = {
    "runtime/engine.py": {
        "Engine.__init__.engine": _ENGINE,
        "Engine._context.return": _CONTEXT,
        "deserialise.return": _ENGINE,
        "torch_dtype.dtype": "_trt.DataType",
    },
    "runtime/call.py": {"Slot.__init__.context": _CONTEXT},
    "runtime/allocator.py": {},
    "runtime/cuda_graph.py": {},
    "runtime/machine.py": {},
    "runtime/partition.py": {},
    "runtime/trt_errors.py": {
        "_runtimes": "dict[str, tuple[_trt.Runtime, _trt.IErrorRecorder, deque[str]]]",
        "runtime_for.return": "_trt.Runtime",
        "_entry.return": "tuple[_trt.Runtime, _trt.IErrorRecorder, deque[str]]",
        "_entry.Recorder.get_error_code.return": "_trt.ErrorCodeTRT",
        "_entry.Recorder.report_error.code": "_trt.ErrorCodeTRT",
    },
    "runtime/backends.py": {},
    "runtime/exported.py": {},
    "runtime/admission.py": {},
    "stages/compile_onnx.py": {
        "_logger.return": "_trt.ILogger",
        "_logger.Logger.log.severity": "_trt.ILogger.Severity",
        "_parse.network": "_trt.INetworkDefinition",
        "_parse.logger": "_trt.ILogger",
        "_configure.builder": "_trt.Builder",
        "_configure.network": "_trt.INetworkDefinition",
        "_configure.config": "_trt.IBuilderConfig",
        "_configure.return": "list[_trt.IOptimizationProfile]",
        "_configure.profiles": "list[_trt.IOptimizationProfile]",
    },
    "stages/engine_facts.py": {
        "dtype_name.dtype": "_trt.DataType",
        "network_facts.network": "_trt.INetworkDefinition",
        "network_facts.profiles": "Sequence[_trt.IOptimizationProfile]",
        "_varies.tensor": "_trt.ITensor",
        "_shapes.profile": "_trt.IOptimizationProfile",
        "_shapes.tensor": "_trt.ITensor",
        "_tensor.tensor": "_trt.ITensor",
    },
    "stages/gpuless.py": {
        "set_target.config": "_trt.IBuilderConfig",
        "_patch_builder.profiles": "list[_trt.IOptimizationProfile]",
        "_patch_builder.config_for_target.self": "_trt.Builder",
        "_patch_builder.config_for_target.return": "_trt.IBuilderConfig",
        "_patch_builder.named_network.self": "_trt.Builder",
        "_patch_builder.named_network.return": "_trt.INetworkDefinition",
        "_patch_builder.noted_profile.self": "_trt.Builder",
        "_patch_builder.noted_profile.return": "_trt.IOptimizationProfile",
        "_patch_builder.build_and_note.self": "_trt.Builder",
        "_patch_builder.build_and_note.network": "_trt.INetworkDefinition",
        "_patch_builder.build_and_note.config": "_trt.IBuilderConfig",
        "_patch_builder.build_and_note.return": "_trt.IHostMemory | None",
        "_patch_builder.build_for_later.self": "_trt.Builder",
        "_patch_builder.build_for_later.network": "_trt.INetworkDefinition",
        "_patch_builder.build_for_later.config": "_trt.IBuilderConfig",
    },
    "stages/inspect_engine.py": {
        "engine_facts.engine": _ENGINE,
        "_tensors.engine": _ENGINE,
        "_ranges.engine": _ENGINE,
    },
    "stages/standard.py": {"set_target.config": "_trt.IBuilderConfig"},
    "verification/realised.py": {"tensors_of.engine": _ENGINE, "inspected.engine": _ENGINE},
}


@dataclass(frozen=True)
class Absent:
    """A name that a TensorRT has not, in one function, and why that does no harm.

    `asked_for`: the code asks whether it is there; some versions have it.
    """

    file: str
    function: str
    name: str
    reason: str
    asked_for: bool = False


_RTX_ALONE = "set_target is called where a target's runtime is tensorrt-rtx alone: an RTX engine is for GPUs by name"
_SUPPRESSED = "an AttributeError leaves the fact out"

NOT_STANDARD = (
    Absent("stages/gpuless.py", "set_target", "num_compute_capabilities", _RTX_ALONE),
    Absent("stages/gpuless.py", "set_target", "set_compute_capability", _RTX_ALONE),
    Absent("stages/gpuless.py", "compute_capability", "ComputeCapability", _RTX_ALONE),
    Absent(
        "runtime/engine.py",
        "Engine._context",
        "dynamic_shapes_kernel_specialization_strategy",
        "it is set where the module has DynamicShapesKernelSpecializationStrategy, which is RTX's",
    ),
)
SOME_HAVE = (
    Absent("runtime/engine.py", "Engine._context", "EAGER", "of an enum that the module is asked for", asked_for=True),
    Absent("stages/inspect_engine.py", "engine_facts", "get_engine_stat", _SUPPRESSED, asked_for=True),
    Absent("stages/inspect_engine.py", "engine_facts", "EngineStat", _SUPPRESSED, asked_for=True),
)
