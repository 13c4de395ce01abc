"""The [compile] section: Torch-TensorRT's settings under their own names, and those a recipe cannot ask for."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, Strict

from trtbuild.digest import Json
from trtbuild.recipe.fields import NotNegative, Positive, Section
from trtbuild.recipe.mistakes import invalid, shown

# The first Torch-TensorRT that knows a setting, for those that 2.11 lacks.
SINCE: dict[str, str] = {
    "fallback_data_dependent_ops": "2.13",
    "disabled_constant_fold_exclusions": "2.14",
    "use_complex_decomposition": "2.14",
}

_OWN_CACHE = "trtbuild has its own cache, and the keys of Torch-TensorRT's tell too few graphs apart"
_NO_FORM = "its value has no form in TOML"
_BY_INPUTS = "the inputs of the model are the [inputs] of the recipe"
_BY_PRECISION = "the precision of a target decides it"
_MIXED_HINT = 'Set precision = "fp16-mixed" or "bf16-mixed" in the target.'
_PRECISION_HINT = "Set `precision` in the target."

# Settings of Torch-TensorRT that a recipe cannot set: why, and what to do instead.
REFUSED: dict[str, tuple[str, str]] = {
    "exported_program": ("it is traced from the model", "Set `entry` in [model]."),
    "inputs": (_BY_INPUTS, "Describe them as [inputs.NAME]."),
    "arg_inputs": (_BY_INPUTS, "Describe them as [inputs.NAME]."),
    "kwarg_inputs": (_BY_INPUTS, "Describe them as [inputs.NAME] with keyword = true."),
    "device": ("the target decides for which GPUs it is built", "Set `compute_capability` in the target."),
    "dryrun": ("a dry run makes nothing to keep", "Ask `trtbuild plan`."),
    "lazy_engine_init": ("it is about the process that compiles, and engines are not run there", "Remove it."),
    "cache_built_engines": (_OWN_CACHE, "Remove it."),
    "reuse_cached_engines": (_OWN_CACHE, "Remove it."),
    "engine_cache_dir": (_OWN_CACHE, "Remove it, and place trtbuild's with `--cache` or TRTBUILD_CACHE."),
    "engine_cache_size": (_OWN_CACHE, "Remove it, and shrink trtbuild's with `trtbuild cache gc`."),
    "custom_engine_cache": (_OWN_CACHE, "Remove it."),
    "timing_cache_path": ("a timing cache makes a build depend on the builds before it", "Remove it."),
    "enable_cross_compile_for_windows": ("the target decides it", 'Set platform = "windows-x86_64" in the target.'),
    "enable_autocast": (_BY_PRECISION, _MIXED_HINT),
    "autocast_low_precision_type": (_BY_PRECISION, _MIXED_HINT),
    "autocast_calibration_dataloader": (_NO_FORM, "Choose what stays in fp32 with `autocast_excluded_nodes`."),
    "precision": (_BY_PRECISION, _PRECISION_HINT),
    "enabled_precisions": (_BY_PRECISION, _PRECISION_HINT),
    "use_explicit_typing": ("networks are always strongly typed", _PRECISION_HINT),
    "use_python_runtime": ("Torch-TensorRT chooses the runtime itself now", "Remove it."),
    "torch_executed_modules": (
        "Torch-TensorRT does not implement it for exported programs",
        "Name operators in `torch_executed_ops`.",
    ),
    "truncate_long_and_double": ("it is deprecated", "Use `truncate_double`; int64 needs no truncating now."),
    "refit": ("it is deprecated", "Use immutable_weights = false."),
    "make_refittable": ("it is deprecated", "Use immutable_weights = false."),
    "debug": ("it is deprecated", "Remove it; the log of every stage is kept."),
}

_IR_INSTEAD = {
    "torch_compile": "torch.compile compiles just in time, in the process that runs the model: its engines cannot be "
    "saved",
    "fx": "the fx frontend is deprecated, and its modules cannot be saved for another process",
}

_OPERATOR = re.compile(
    r"(?:torch\.ops\.)?(?P<space>[A-Za-z_]\w*)(?:::|\.)(?P<name>[A-Za-z_]\w*)(?:\.(?P<overload>[A-Za-z_]\w*))?"
)


def _ir(value: Any) -> str:
    if value in ("dynamo", "ts"):
        return str(value)
    reason = _IR_INSTEAD.get(value) if isinstance(value, str) else None
    if reason is None:
        raise invalid("{here} is no frontend", allowed="dynamo, ts", got=shown(value))
    raise invalid(
        f'{{here}} cannot be "{value}": {reason}',
        allowed="dynamo, ts",
        hint='Use ir = "dynamo", which compiles ahead of time, or leave it out.',
    )


def _operator(value: str) -> str:
    match = _OPERATOR.fullmatch(value)
    if not match:
        raise invalid(
            "{here} is no operator name",
            got=shown(value),
            hint='For example: "torch.ops.aten.relu.default", "aten.relu.default" or "aten::relu".',
        )
    return f"torch.ops.{match['space']}.{match['name']}.{match['overload'] or 'default'}"


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise invalid(f"{{here}} is no regular expression: {error}", got=shown(value)) from None
    return value


def _sorted_set(values: tuple[str, ...]) -> tuple[str, ...]:
    # These are sets to Torch-TensorRT; one order, so that one meaning has one key.
    return tuple(sorted(set(values)))


_Operators = Annotated[
    tuple[Annotated[str, AfterValidator(_operator)], ...], Strict(False), AfterValidator(_sorted_set)
]
_Patterns = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], Strict(False), AfterValidator(_sorted_set)]
_Names = Annotated[tuple[str, ...], Strict(False), AfterValidator(_sorted_set)]
_Ir = Annotated[Literal["dynamo", "ts"], PlainValidator(_ir, json_schema_input_type=Literal["dynamo", "ts"])]


def _setting(description: str, *, default: Json = None, unit: str = "", since: str = "") -> Any:
    """A setting of Torch-TensorRT: None leaves its own default, which `default` tells the reader."""
    extra: dict[str, Any] = {}
    if default is not None:
        extra["default"] = default
    if unit:
        extra["unit"] = unit
    if since:
        extra["since"] = since
    return Field(default=None, description=description, json_schema_extra=extra)


class Compile(Section):
    """How the traced graph becomes engines. Settings left out are as Torch-TensorRT has them."""

    converter: Literal["torch-tensorrt", "onnx"] = Field(
        default="torch-tensorrt", description="What turns operators into TensorRT layers."
    )
    opset: Positive | None = Field(
        default=None, description='The ONNX opset; only with converter = "onnx".', examples=[20]
    )
    ir: _Ir = Field(
        default="dynamo",
        description='The frontend of Torch-TensorRT: "ts" makes a torchscript by TorchScript, '
        "and needs a GPU and a version that still has it.",
    )

    # Which operators go to TensorRT.
    min_block_size: Positive | None = _setting("The fewest operators that make an engine of their own.", default=5)
    torch_executed_ops: _Operators | None = _setting("Operators that run in PyTorch whatever TensorRT can do.")
    require_full_compilation: bool | None = _setting("Fail unless the entire graph is one engine.", default=False)
    fallback_data_dependent_ops: bool | None = _setting(
        "Run operators whose output shape depends on data in PyTorch.",
        default=False,
        since=SINCE["fallback_data_dependent_ops"],
    )
    use_fast_partitioner: bool | None = _setting("Partition by adjacency: faster, and perhaps less good.", default=True)
    assume_dynamic_shape_support: bool | None = _setting(
        "Take every converter to support dynamic shapes.", default=False
    )
    pass_through_build_failures: bool | None = _setting("Raise where an engine fails to build.", default=False)

    # How the graph is rewritten before.
    truncate_double: bool | None = _setting("Truncate float64 inputs and weights of engines to float32.", default=False)
    enable_experimental_decompositions: bool | None = _setting("Use the full set of decompositions.", default=False)
    decompose_attention: bool | None = _setting("Decompose attention rather than convert it.", default=False)
    attn_bias_is_causal: bool | None = _setting("Take the bias of attention to be a causal mask.", default=True)
    use_complex_decomposition: bool | None = _setting(
        "Rewrite complex numbers with PyTorch's own decomposition.", since=SINCE["use_complex_decomposition"]
    )
    disabled_constant_fold_exclusions: _Names | None = _setting(
        "Ids of rules that keep nodes from being folded, to be switched off.",
        since=SINCE["disabled_constant_fold_exclusions"],
    )
    use_distributed_mode_trace: bool | None = _setting(
        "Trace with aot_autograd, for distributed tensors.", default=False
    )

    # Numbers.
    disable_tf32: bool | None = _setting("Compute fp32 layers without TF32.", default=False)
    use_fp32_acc: bool | None = _setting("Accumulate fp16 matrix products in fp32.", default=False)
    sparse_weights: bool | None = _setting("Allow kernels for weights of 2:4 sparsity.", default=False)
    autocast_excluded_nodes: _Patterns | None = _setting("Regular expressions of nodes that stay in fp32 when mixed.")
    autocast_excluded_ops: _Operators | None = _setting("Operators that stay in fp32 when mixed.")
    autocast_max_output_threshold: Annotated[float, Field(ge=0)] | None = _setting(
        "Nodes whose outputs exceed this stay in fp32 when mixed.", default=512
    )
    autocast_max_depth_of_reduction: NotNegative | None = _setting(
        "Reductions deeper than this stay in fp32 when mixed."
    )

    # The builder.
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = _setting("How long TensorRT searches; it takes 3.")
    workspace_size: NotNegative | None = _setting(
        "Scratch memory of an engine; 0 sets no limit.", default=0, unit="bytes"
    )
    max_aux_streams: NotNegative | None = _setting("The most auxiliary streams of an engine.")
    num_avg_timing_iters: Positive | None = _setting("How many runs a kernel's timing is averaged over.", default=1)
    tiling_optimization_level: Literal["none", "fast", "moderate", "full"] | None = _setting(
        "How long TensorRT searches for tilings.", default="none"
    )
    l2_limit_for_tiling: Annotated[int, Field(ge=-1)] | None = _setting(
        "L2 cache that tilings may use; -1 sets no limit.", default=-1, unit="bytes"
    )
    engine_capability: Literal["standard", "safety", "dla_standalone"] | None = _setting(
        "To which kernels the engine is restricted.", default="standard"
    )
    dla_sram_size: NotNegative | None = _setting("RAM inside a DLA layer.", default=2**20, unit="bytes")
    dla_local_dram_size: NotNegative | None = _setting(
        "RAM shared between DLA operations.", default=2**30, unit="bytes"
    )
    dla_global_dram_size: NotNegative | None = _setting("RAM for DLA weights.", default=2**29, unit="bytes")

    # What the engine can do afterwards.
    version_compatible: bool | None = _setting("Let later versions of TensorRT run the engine.", default=False)
    hardware_compatible: bool | None = _setting("Let other GPU architectures run the engine.", default=False)
    immutable_weights: bool | None = _setting("Build engines whose weights cannot be refitted.", default=True)
    refit_identical_engine_weights: bool | None = _setting("Refit identical weights.", default=False)
    strip_engine_weights: bool | None = _setting("Leave the weights out of the engine.", default=False)
    enable_weight_streaming: bool | None = _setting("Let weights stream from the host.", default=False)
    dynamically_allocate_resources: bool | None = _setting("Allocate memory as the engine runs.", default=False)

    # Memory while compiling.
    offload_module_to_cpu: bool | None = _setting("Keep the module in host memory while compiling.", default=False)
    enable_resource_partitioning: bool | None = _setting(
        "Split engines so that compiling fits in memory.", default=False
    )
    cpu_memory_budget: Positive | None = _setting("Host memory that compiling may use.", unit="bytes")

    def given(self) -> dict[str, Json]:
        """Torch-TensorRT's settings as the recipe sets them; those it leaves out are not there."""
        own = {"converter", "opset", "ir"}
        values: dict[str, Json] = self.model_dump(mode="json", exclude=own, exclude_unset=True, exclude_none=True)
        return dict(sorted(values.items()))
