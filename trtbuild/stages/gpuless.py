"""Torch-TensorRT without a GPU: every patch to third-party code, with the fault it answers.

Torch-TensorRT asks the GPU of the host where it means the GPU that the engine is for. In a worker process, and only
there, these answers are given for the *target*. Each patch says what fails without it; TRIED names the version sets
on which all of them were run, engines built without a GPU were loaded and their numbers compared on a GPU.

`import_torch_tensorrt` serves the warm server and processes without one, `answer_for` the process that compiles.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trtbuild.stages.bounds import Bounds
from trtbuild.stages.engine_facts import network_facts

TRIED = (
    {"torch": "2.14", "torch-tensorrt-rtx": "2.14", "tensorrt-rtx": "1.6"},
    {"torch": "2.11", "torch-tensorrt-rtx": "2.11", "tensorrt-rtx": "1.4"},
)

# Both are written into the engine. TensorRT's defaults are a per-process counter and the memory of whatever GPU the
# builder has, so two builds of one network would differ.
NETWORK_NAME = "trtbuild"
WORKSPACE = 64 << 30

# What the host is said to have: only asked to warn of too little memory.
_MEMORY = 64 << 30


@dataclass(slots=True)
class Built:
    """What was learned while engines were built: facts of each network, by the sha256 of the engine's bytes."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class _ErrorLog(logging.Handler):
    """TensorRT's Python binding often only logs an API error; this keeps them so that the stage can fail on them."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        self._errors.append(record.getMessage())


class _BuiltEngine:
    """Stands for an engine that needs a driver to be deserialised, where only its bytes are wanted."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def serialize(self) -> Any:
        return self._data

    def get_aliased_input_tensor(self, name: str) -> None:
        # Key-value caches updated in place would be told by a live engine; no converter of a GPU-less build makes one.
        return None


def import_torch_tensorrt() -> None:
    """Import TensorRT and Torch-TensorRT on a machine that may have no GPU, without touching one it has."""
    if "torch_tensorrt" in sys.modules:
        return
    import torch

    # Fault: `import torch_tensorrt` asks for the current GPU's capability (is this a Jetson?) and index.
    torch.cuda.get_device_capability = lambda *_, **__: (8, 9)
    torch.cuda.current_device = lambda: 0
    # Fault (2.11): the RTX wheels ship a `plugin` package whose bindings are missing; finding it fails the import.
    find_spec = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *args: (
        None if name.startswith("tensorrt.plugin") else find_spec(name, *args)
    )
    try:
        import torch_tensorrt
    finally:
        importlib.util.find_spec = find_spec
    import torch_tensorrt.dynamo._compiler
    import torch_tensorrt.dynamo._exporter  # noqa: F401


def answer_for(capabilities: Sequence[str], bounds: Bounds, workspace: int = 0) -> Built:
    """Answer for GPUs of these compute capabilities from now on in this process, and record what is built."""
    import_torch_tensorrt()
    _patch_torch(capabilities)
    return configure_with(lambda trt, config: set_target(trt, config, capabilities, workspace or WORKSPACE), bounds)


def configure_with(configure: Callable[[Any, Any], None], bounds: Bounds) -> Built:
    """Have every builder config set up by `configure(trt, config)` from now on in this process, record what is built,
    and load no engine: one for another platform or GPU cannot be."""
    built = Built()
    _patch_builder(configure, built)
    _patch_torch_tensorrt()
    _patch_compiler(bounds)
    _patch_exporter()
    logging.getLogger("torch_tensorrt [TensorRT Conversion Context]").addHandler(_ErrorLog(built.errors))
    return built


def compute_capability(trt: Any, capability: str) -> Any:
    """TensorRT's name of a compute capability: "8.9" -> SM89."""
    return getattr(trt.ComputeCapability, "SM" + capability.replace(".", ""))


def set_target(trt: Any, config: Any, capabilities: Sequence[str], workspace: int) -> None:
    """Set the GPUs an RTX engine is for, and the workspace limit, on a builder config."""
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(compute_capability(trt, capability), index)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)


def _patch_torch(capabilities: Sequence[str]) -> None:
    import torch

    major, minor = (int(part) for part in capabilities[0].split("."))

    class Properties:
        name = f"compute capability {capabilities[0]}"
        total_memory = _MEMORY

    Properties.major, Properties.minor = major, minor  # type: ignore[attr-defined]
    # Fault: the device tag of an engine, and converters that look at the GPU, ask the host's.
    torch.cuda.get_device_capability = lambda *_, **__: (major, minor)
    torch.cuda.get_device_properties = lambda *_, **__: Properties
    # Fault (2.14): compile() warns of too little memory, and asks without looking whether there is a GPU.
    torch.cuda.mem_get_info = lambda *_, **__: (_MEMORY, _MEMORY)


def _patch_builder(configure: Callable[[Any, Any], None], built: Built) -> None:
    import tensorrt as trt

    create_config, create_network = trt.Builder.create_builder_config, trt.Builder.create_network
    build, create_profile = trt.Builder.build_serialized_network, trt.Builder.create_optimization_profile
    profiles: list[Any] = []

    def config_for_target(self: Any) -> Any:
        # Fault: Torch-TensorRT never says which GPUs the engine is for; the default asks the current one.
        config = create_config(self)
        configure(trt, config)
        return config

    def named_network(self: Any, *args: Any) -> Any:
        profiles.clear()
        network = create_network(self, *args)
        network.name = NETWORK_NAME
        return network

    def noted_profile(self: Any) -> Any:
        profiles.append(create_profile(self))
        return profiles[-1]

    def build_and_note(self: Any, network: Any, config: Any) -> Any:
        from trtbuild.digest import digest_bytes

        engine = build(self, network, config)
        if engine is not None:
            # An engine cannot be inspected without a driver: what is known of it is what its network says now.
            built.facts[digest_bytes(memoryview(engine))] = network_facts(network, profiles)
        return engine

    def build_for_later(self: Any, network: Any, config: Any) -> Any:
        # Fault: with standard TensorRT an engine is built and loaded in one go, only to be serialised.
        engine = build_and_note(self, network, config)
        return None if engine is None else _BuiltEngine(engine)

    trt.Builder.create_builder_config = config_for_target
    trt.Builder.create_network = named_network
    trt.Builder.create_optimization_profile = noted_profile
    trt.Builder.build_serialized_network = build_and_note
    if hasattr(trt.Builder, "build_engine_with_config"):
        trt.Builder.build_engine_with_config = build_for_later
    # Fault: the engine is deserialised right after the build, only to be serialised again; that needs a driver.
    trt.Runtime.deserialize_cuda_engine = lambda self, data: _BuiltEngine(data)


def _patch_torch_tensorrt() -> None:
    from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter
    from torch_tensorrt.dynamo.runtime._TorchTensorRTModule import TorchTensorRTModule

    # Fault (2.11): sets a timing cache, which RTX does not have and which would make an engine depend on the past.
    TRTInterpreter._create_timing_cache = lambda *_, **__: None
    TRTInterpreter._save_timing_cache = lambda *_, **__: None
    # Fault: a module sets its engine up when made, which deserialises it.
    TorchTensorRTModule.setup_engine = lambda self: None
    # Fault (2.11, 2.14): in a graph of several parts this is called on an engine that was never set up.
    TorchTensorRTModule.set_output_tensors_as_unowned = lambda self, enabled: None


def _patch_exporter() -> None:
    from torch_tensorrt.dynamo import _exporter

    if hasattr(_exporter, "get_duplicate_nodes"):
        # Fault (2.11): what a PyTorch part takes is looked for by name, and names collide: the part is then wired to
        # another result, and the engine that it should have taken from is pruned without a word. By place they are
        # certain.
        _exporter.get_duplicate_nodes = _inputs_by_place


def _inputs_by_place(module: Any, part: Any) -> tuple[list[Any], list[Any]]:
    """The inputs of a part of a program, inside of it and where it is called."""
    (call,) = [node for node in module.graph.nodes if node.op == "call_module" and getattr(module, node.target) is part]
    inside = [node for node in part.graph.nodes if node.op == "placeholder"]
    assert len(inside) == len(call.args)
    return inside, list(call.args)


def _patch_compiler(bounds: Bounds) -> None:
    import torch
    from torch_tensorrt.dynamo import _compiler
    from torch_tensorrt.dynamo.lowering import _decompositions
    from torch_tensorrt.dynamo.partitioning import common

    # Fault: the parts left to PyTorch are moved to the GPU; their weights stay on the CPU until they are loaded.
    _compiler.to_torch_device = lambda device: torch.device("cpu")
    # Fault: ranges are read from the shape environment, which decomposing on a CPU narrows (a convolution asks whether
    # the batch is below 16), and opt from the size that happened to be traced. The recipe's own bounds are meant.
    original: Callable[..., Any] = common.extract_var_range_info
    common.extract_var_range_info = lambda size, **options: bounds.of(size) or original(size, **options)
    # Fault: autocast casts every tensor, so that indices of an embedding become floats.
    # (The pass is a function of its module's name; only the import system tells the module.)
    autocast: Any = importlib.import_module("torch_tensorrt.dynamo.lowering.passes.rule_based_autocast")
    autocast.is_tensor_node = lambda node: getattr(
        getattr(node.meta.get("val"), "dtype", None), "is_floating_point", False
    )
    # Fault (2.11): the softmax of attention's plain formula has neither a converter nor a decomposition.
    softmax = torch.ops.aten._safe_softmax.default
    _decompositions.TORCH_TRT_DECOMPOSITIONS.setdefault(softmax, _safe_softmax)
    # Fault (2.11, 2.14): a cast of an engine's input has a converter for static shapes only. The partitioner asks
    # before it cuts, when the cast is of a PyTorch part's result, and the interpreter after, when it is of an input.
    _take_any_shape(torch.ops.aten._to_copy.default)
    if hasattr(_compiler, "_build_user_symbol_bounds"):
        # Fault (2.14): compares the same narrowed ranges with the inputs and refuses.
        _compiler._build_user_symbol_bounds = lambda *_, **__: {}


def _take_any_shape(op: Any) -> None:
    from torch_tensorrt.dynamo.conversion._ConverterRegistry import DYNAMO_ATEN_CONVERTERS

    known = DYNAMO_ATEN_CONVERTERS[op]
    DYNAMO_ATEN_CONVERTERS[op] = type(known)(replace(one, supports_dynamic_shapes=True) for one in known)


def _safe_softmax(x: Any, dim: int, dtype: Any = None) -> Any:
    """Softmax with zeros in place of NaN where a whole row is masked by -inf; torch's own formula has an `all`,
    which 2.11 cannot convert either."""
    import torch

    out = torch.softmax(x, dim, dtype)
    masked = torch.amax(x, dim, keepdim=True) < torch.finfo(x.dtype).min
    return torch.where(masked, torch.zeros_like(out), out)
