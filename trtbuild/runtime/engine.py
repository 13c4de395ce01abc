"""An engine and its contexts: one context per optimisation profile, chosen by the shapes.

What depends on shapes alone is decided once and kept as a Call; a call sets only what changed since the last.
Written once for TensorRT-RTX and TensorRT: the module is handed in, and only names that both have are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from trtbuild.runtime.call import Call, Slot
from trtbuild.runtime.problems import InputError, LoadError
from trtbuild.runtime.trt_errors import messages_of

# Calls remembered per engine; models with dynamic sizes may see any number of shapes.
_KEPT = 256


@dataclass(frozen=True, slots=True)
class Binding:
    """An input or output of an engine. `on_host` inputs are read by TensorRT on the CPU: their values are shapes."""

    name: str
    dtype: torch.dtype
    on_host: bool


class Engine:
    """A deserialised engine on a device, callable with its inputs in a given order.

    `result_dtypes` are those that callers get; where the engine's own differ (it has no float64), tensors are converted
    on the way, and so is what callers give. `specialise`: kernels for a shape are made before its first run returns.
    """

    def __init__(
        self,
        trt: Any,
        engine: Any,
        device: torch.device,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        specialise: bool = False,
        result_dtypes: Sequence[torch.dtype] | None = None,
    ) -> None:
        self.trt = trt
        self.engine = engine
        self.device = device
        self._specialise = specialise
        self._slots: dict[int, Slot] = {}
        self._calls: dict[Any, Call] = {}
        known = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        missing = [name for name in (*inputs, *outputs) if name not in known]
        if missing:
            raise LoadError(
                "The engine does not have the tensors that the manifest names",
                [("missing", ", ".join(missing)), ("has", ", ".join(known))],
            )
        self._check_aliases([name for name in known if name not in inputs])
        self.inputs = [self._binding(name) for name in inputs]
        self._hosts = [place for place, binding in enumerate(self.inputs) if binding.on_host]
        self.outputs = [self._binding(name) for name in outputs]
        self.result_dtypes = list(result_dtypes or [output.dtype for output in self.outputs])
        left = {name for name in known if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT} - set(inputs)
        if left:
            raise LoadError("The engine takes inputs that the manifest does not name", [("takes", ", ".join(left))])
        # Outputs that nobody asked for have to be written somewhere all the same.
        self.unasked = [self._binding(name) for name in known if name not in {*inputs, *outputs}]
        self.profiles = [self._profile(index) for index in range(engine.num_optimization_profiles)]

    def __call__(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The outputs, in order. What is given must be on the device and within a profile."""
        return self.call_for(inputs)(inputs)

    def call_for(self, inputs: Sequence[torch.Tensor]) -> Call:
        """The call for inputs of these shapes, made where it is new. InputError where no profile takes them."""
        key = tuple([tensor.shape for tensor in inputs])
        if self._hosts:
            key += tuple([tuple(inputs[place].flatten().tolist()) for place in self._hosts])
        call = self._calls.get(key)
        if call is None:
            if len(self._calls) >= _KEPT:
                # Another thread may have taken it out.
                self._calls.pop(next(iter(self._calls)), None)
            call = self._calls[key] = Call(self, self._slot(self._profile_for(inputs)), inputs)
        return call

    def call_alone(self, inputs: Sequence[torch.Tensor]) -> Call:
        """A call with a context of its own, as a CUDA graph needs it: it keeps addresses and scratch memory."""
        return Call(self, self._new_slot(self._profile_for(inputs)), inputs)

    def _check_aliases(self, outputs: Sequence[str]) -> None:
        if not hasattr(self.engine, "get_aliased_input_tensor"):
            return
        for name in outputs:
            aliased = self.engine.get_aliased_input_tensor(name)
            if aliased:
                raise LoadError(
                    "The engine writes an output into the memory of an input, which this loader does not offer",
                    [("output", name), ("input", str(aliased))],
                )

    def _binding(self, name: str) -> Binding:
        engine, trt = self.engine, self.trt
        return Binding(
            name=name,
            dtype=torch_dtype(trt, engine.get_tensor_dtype(name)),
            on_host=engine.get_tensor_location(name) == trt.TensorLocation.HOST,
        )

    def _profile(self, index: int) -> Mapping[str, tuple[Any, Any]]:
        ranges = {}
        for binding in self.inputs:
            if not binding.on_host:
                low, _, high = self.engine.get_tensor_profile_shape(binding.name, index)
                ranges[binding.name] = (tuple(low), tuple(high))
        return ranges

    def _profile_for(self, inputs: Sequence[torch.Tensor]) -> int:
        """The narrowest of the profiles that take the shapes: it was tuned for the least."""
        shapes = {b.name: tuple(t.shape) for b, t in zip(self.inputs, inputs, strict=True) if not b.on_host}
        fitting = [
            (_extent(ranges), index)
            for index, ranges in enumerate(self.profiles)
            if all(_within(shape, ranges[name]) for name, shape in shapes.items())
        ]
        if not fitting:
            raise InputError(
                "No optimisation profile of the engine takes these shapes",
                [("given", "\n".join(f"{name}: {_text(shape)}" for name, shape in shapes.items()))]
                + [
                    (f"profile {index}", "\n".join(f"{n}: {_text(r[0])} to {_text(r[1])}" for n, r in ranges.items()))
                    for index, ranges in enumerate(self.profiles)
                ],
                "[dims] and [[profiles]] of the recipe say the ranges.",
            )
        return min(fitting)[1]

    def _slot(self, profile: int) -> Slot:
        slot = self._slots.get(profile)
        if slot is None:
            slot = self._slots[profile] = self._new_slot(profile)
        return slot

    def _new_slot(self, profile: int) -> Slot:
        with torch.cuda.device(self.device):
            context = self._context()
            if context is None:
                raise LoadError("TensorRT could not make an execution context", messages_of(self.trt))
            stream = torch.cuda.Stream(self.device)
            if profile != 0 or context.active_optimization_profile != 0:
                if not context.set_optimization_profile_async(profile, stream.cuda_stream):
                    raise LoadError("TensorRT did not take its own profile", messages_of(self.trt))
                stream.synchronize()
        return Slot(context, stream, self.device)

    def _context(self) -> Any:
        if self._specialise and hasattr(self.engine, "create_runtime_config"):
            config = self.engine.create_runtime_config()
            strategy = getattr(self.trt, "DynamicShapesKernelSpecializationStrategy", None)
            if strategy is not None:
                # By default TensorRT-RTX runs general kernels until those for the shape are compiled, in a thread of
                # its own: a graph captured before would keep the general ones.
                config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
            return self.engine.create_execution_context(config)
        return self.engine.create_execution_context()


def deserialise(trt: Any, data: Any, device: torch.device, opening: str) -> Any:
    """An ICudaEngine from a buffer, which is not needed any more afterwards. LoadError with what TensorRT says."""
    from trtbuild.runtime.trt_errors import runtime_for

    with torch.cuda.device(device):
        engine = runtime_for(trt).deserialize_cuda_engine(data)
    if engine is None:
        raise LoadError(f"TensorRT cannot read {opening}", messages_of(trt), "Was it built by this very version?")
    return engine


_DTYPES: Mapping[str, str] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
    "FP8": "float8_e4m3fn",
}


def torch_dtype(trt: Any, dtype: Any) -> torch.dtype:
    """torch's dtype for TensorRT's. LoadError where torch has none."""
    name = _DTYPES.get(dtype.name)
    if name is None:
        raise LoadError("The engine has a tensor of a type that torch does not know", [("type", str(dtype.name))])
    found: torch.dtype = getattr(torch, name)
    return found


def _extent(ranges: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> int:
    """How many sets of shapes lie within."""
    return prod(high - low + 1 for lows, highs in ranges.values() for low, high in zip(lows, highs, strict=True))


def _within(shape: Sequence[int], limits: tuple[Sequence[int], Sequence[int]]) -> bool:
    lows, highs = limits
    return len(shape) == len(lows) and all(a <= size <= b for a, size, b in zip(lows, shape, highs, strict=True))


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
