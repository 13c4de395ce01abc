"""A `tensorrt_rtx` whose engines are Python functions over CPU tensors, and streams and events that only take notes.

It knows what the loader uses of the API, with TensorRT's rules: an engine runs only if shapes lie in the profile that
is set and every tensor has an address, and it reads and writes at these addresses alone.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

VERSION = "1.6.1.120"


@dataclass
class Tensor:
    """An input or output: shape with -1 where it varies; `shapes` are its (min, opt, max) per profile."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "FLOAT"
    shapes: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)
    host: bool = False


@dataclass
class Network:
    """What an engine computes: `compute` gives the outputs for the inputs, `infer` their shapes (None: by the data)."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    compute: Callable[..., Sequence[torch.Tensor]]
    infer: Callable[..., Sequence[tuple[int, ...]]]
    profiles: int = 1


_DTYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "INT64": torch.int64, "BOOL": torch.bool}
NETWORKS: dict[str, Network] = {}
ENGINES: list[Engine] = []


def engine_bytes(network: Network, body: bytes = b"engine") -> bytes:
    """A file that the fake runtime takes for this network's engine."""
    start = b"vtrt" + bytes(4) + (2).to_bytes(8, "little")
    data = start + (28 + len(body)).to_bytes(8, "little") + bytes(map(int, VERSION.split("."))) + body
    register(data, network)
    return data


def register(data: bytes, network: Network) -> None:
    """Have the fake runtime take these bytes, real ones perhaps, for this network's engine."""
    NETWORKS[hashlib.sha256(data).hexdigest()] = network


class Logger:
    ERROR = 1

    def __init__(self, severity: int) -> None:
        pass


class ErrorRecorder:
    pass


class OutputAllocator:
    pass


class Runtime:
    def __init__(self, logger: Any = None) -> None:
        self.error_recorder: Any = None

    def deserialize_cuda_engine(self, data: Any) -> Engine | None:
        network = NETWORKS.get(hashlib.sha256(bytes(data)).hexdigest())
        if network is None:
            self.error_recorder.report_error(1, "Serialization assertion failed")
            return None
        return Engine(network, self.error_recorder)


class Engine:
    def __init__(self, network: Network, recorder: Any) -> None:
        self.network, self.recorder = network, recorder
        self.tensors = [*network.inputs, *network.outputs]
        self.num_io_tensors, self.num_optimization_profiles = len(self.tensors), network.profiles
        self.contexts: list[Context] = []
        ENGINES.append(self)

    def _tensor(self, name: str) -> Tensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index].name

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if self._tensor(name) in self.network.inputs else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self._tensor(name).dtype)

    def get_tensor_location(self, name: str) -> str:
        return "HOST" if self._tensor(name).host else "DEVICE"

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        tensor = self._tensor(name)
        return tensor.shapes[profile] if tensor.shapes else (tensor.shape,) * 3

    def get_aliased_input_tensor(self, name: str) -> None:
        return None

    def create_execution_context(self) -> Context:
        self.contexts.append(Context(self))
        return self.contexts[-1]


class Context:
    """`calls` counts what was set; `streams` lists the streams it ran on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.active_optimization_profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.calls: dict[str, int] = {"shape": 0, "address": 0}
        self.streams: list[int] = []
        self.fails = False

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.active_optimization_profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls["shape"] += 1
        low, _, high = self.engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        if len(shape) != len(low) or any(not a <= s <= b for a, s, b in zip(low, shape, high, strict=True)):
            self.engine.recorder.report_error(1, f"{shape} does not satisfy any optimization profiles")
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.calls["address"] += 1
        self.addresses[name] = address
        return address != 0

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        if allocator is None:
            self.allocators.pop(name, None)
        else:
            self.allocators[name] = allocator
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        network = self.engine.network
        values = [self._read(t) if t.host else self.shapes[t.name] for t in network.inputs]
        index = [tensor.name for tensor in network.outputs].index(name)
        return tuple(network.infer(*values)[index])

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        if self.fails or any(t.name not in self.addresses for t in self.engine.network.inputs):
            self.engine.recorder.report_error(1, "Address is not set")
            return False
        results = self.engine.network.compute(*[self._read(t) for t in self.engine.network.inputs])
        for tensor, result in zip(self.engine.network.outputs, results, strict=True):
            value = result.to(_DTYPES[tensor.dtype]).contiguous()
            size = value.numel() * value.element_size()
            allocator = self.allocators.get(tensor.name)
            if allocator is not None:
                address = allocator.reallocate_output_async(tensor.name, None, size, 256, stream)
                allocator.notify_shape(tensor.name, tuple(value.shape))
            else:
                address = self.addresses[tensor.name]
                assert tuple(value.shape) == self.get_tensor_shape(tensor.name)
            ctypes.memmove(address, value.data_ptr(), size)
        return True

    def _read(self, tensor: Tensor) -> torch.Tensor:
        shape, dtype = self.shapes[tensor.name], _DTYPES[tensor.dtype]
        value = torch.empty(shape, dtype=dtype)
        ctypes.memmove(value.data_ptr(), self.addresses[tensor.name], value.numel() * value.element_size())
        return value


def module() -> ModuleType:
    """The module as the loader imports it."""
    trt: Any = ModuleType("tensorrt_rtx")
    trt.__spec__ = ModuleSpec("tensorrt_rtx", None)
    trt.__version__ = VERSION
    trt.Logger = Logger
    trt.IErrorRecorder = ErrorRecorder
    trt.IOutputAllocator = OutputAllocator
    trt.Runtime = Runtime
    trt.TensorIOMode = SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT")
    trt.TensorLocation = SimpleNamespace(HOST="HOST", DEVICE="DEVICE")
    found: ModuleType = trt
    return found


class Stream:
    """A stream that notes what it is told to wait for."""

    made = 0
    current: Stream

    def __init__(self, device: Any = None, handle: int | None = None) -> None:
        Stream.made += 1
        self.cuda_stream = Stream.made if handle is None else handle
        self.device = torch.device("cpu")
        self.waited: list[Any] = []

    def wait_event(self, event: Event) -> None:
        self.waited.append(event.recorded_on)

    def wait_stream(self, stream: Stream) -> None:
        self.waited.append(stream.cuda_stream)

    def synchronize(self) -> None:
        pass


class Event:
    recorded_on: int | None = None

    def record(self, stream: Stream) -> None:
        self.recorded_on = stream.cuda_stream


@pytest.fixture
def default_stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """torch.cuda as far as the loader uses it, without a GPU; the caller is on the default stream."""
    import sys

    Stream.made = 0
    default = Stream.current = Stream(handle=0)

    @contextmanager
    def nothing(*_: Any) -> Any:
        yield

    @contextmanager
    def on(stream: Stream) -> Any:
        before, Stream.current = Stream.current, stream
        yield
        Stream.current = before

    for name, value in {
        "Stream": Stream,
        "Event": Event,
        "device": nothing,
        "stream": on,
        "default_stream": lambda device=None: default,
        "current_stream": lambda device=None: Stream.current,
        "device_count": lambda: 1,
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda device=None: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda index: Stream.current.cuda_stream, raising=False)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module())
    monkeypatch.setattr("trtbuild.runtime.trt_errors._runtimes", {})
    NETWORKS.clear()
    ENGINES.clear()
    return default
