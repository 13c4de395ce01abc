"""One engine at one set of shapes: what a call does, with all that the shapes decide decided before.

Streams. Work goes to the caller's current stream. TensorRT synchronises the host when it is given the default stream,
so then the context's own stream runs the engine, between two events: it waits for what the caller has put on the
default stream, and the default stream waits for it. Memory is therefore safe as it is: inputs, outputs and copies
belong to the caller's stream, and no later work on that stream starts before the engine is done with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from trtbuild.runtime.allocator import Allocator
from trtbuild.runtime.problems import RunError
from trtbuild.runtime.trt_errors import messages_of

if TYPE_CHECKING:
    from trtbuild.runtime.engine import Binding, Engine


class Slot:
    """An execution context and what was last set on it. `lock` is held while it is set and run."""

    def __init__(self, context: Any, stream: torch.cuda.Stream, device: torch.device) -> None:
        self.context = context
        self.stream = stream
        self.device = device
        self.default = torch.cuda.default_stream(device)
        self.before, self.after = torch.cuda.Event(), torch.cuda.Event()
        self.addresses: dict[str, int] = {}
        self.allocated: list[str] = []
        self.call: Call | None = None
        self.last: torch.cuda.Stream | None = None
        self.lock = Lock()
        self._index = device.index
        # torch.cuda.current_stream() makes an object each time, which takes longer than the rest of a call.
        self._current = getattr(torch._C, "_cuda_getCurrentRawStream", None) or _current_stream

    def execute(self) -> bool:
        """Put the engine on the caller's stream, or between events on the context's own where that is the default."""
        handle = self._current(self._index)
        if handle == 0:
            self.before.record(self.default)
            self.stream.wait_event(self.before)
            if self.last is not self.stream:
                self._follow(self.stream)
            done: bool = self.context.execute_async_v3(self.stream.cuda_stream)
            self.after.record(self.stream)
            self.default.wait_event(self.after)
            return done
        if self.last is None or self.last.cuda_stream != handle:
            self._follow(torch.cuda.current_stream(self.device))
        return bool(self.context.execute_async_v3(handle))

    def _follow(self, stream: torch.cuda.Stream) -> None:
        """Have a stream wait for the context's last run: the two would share its scratch memory."""
        # Waiting for work outside of a capture would break it, and what is captured does not run now.
        if torch.cuda.is_current_stream_capturing():
            return
        if self.last is not None:
            stream.wait_stream(self.last)
        self.last = stream

    def address(self, name: str, pointer: int) -> None:
        """Tell the context where a tensor lies, if it lies elsewhere than before."""
        if self.addresses.get(name) != pointer:
            if not self.context.set_tensor_address(name, pointer):
                self.addresses.pop(name, None)
                raise RunError("TensorRT did not take an address", [("tensor", name)])
            self.addresses[name] = pointer


class Call:
    """A callable over the engine's inputs, for the shapes of those that it was made with."""

    def __init__(self, engine: Engine, slot: Slot, inputs: Sequence[torch.Tensor]) -> None:
        self._engine, self._slot = engine, slot
        self._index = engine.device.index
        self._several = torch.cuda.device_count() > 1
        self._shapes = [tuple(tensor.shape) for tensor in inputs]
        self._hosts = {
            place: inputs[place].detach().to("cpu", binding.dtype).contiguous().clone()
            for place, binding in enumerate(engine.inputs)
            if binding.on_host
        }
        # An empty tensor has no address, and TensorRT wants one.
        self._nowhere = torch.empty(256, dtype=torch.uint8, device=engine.device)
        with slot.lock, torch.cuda.device(engine.device):
            # Whatever was selected before is selected anew by its next call.
            slot.call = None
            self._set_shapes()
            self._outputs = [self._output(binding) for binding in engine.outputs]
            unasked = [self._output(binding) for binding in engine.unasked]
        self._unasked = [
            (name, torch.empty(shape, dtype=dtype, device=where))
            for name, shape, dtype, where in unasked
            if shape is not None
        ]
        self._casts = [
            (place, dtype) for place, dtype in enumerate(engine.result_dtypes) if dtype != engine.outputs[place].dtype
        ]
        self._inputs = [
            (place, binding.name, binding.dtype) for place, binding in enumerate(engine.inputs) if not binding.on_host
        ]
        self._on_host = [place for place, binding in enumerate(engine.outputs) if binding.on_host]
        self._allocators = {
            place: Allocator(engine.trt, slot.stream)
            for place, (_, shape, _, _) in enumerate(self._outputs)
            if shape is None
        }

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if self._several and torch.cuda.current_device() != self._index:
            with torch.cuda.device(self._index):
                return self._run(inputs)
        return self._run(inputs)

    def _run(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        slot, empty = self._slot, torch.empty
        with slot.lock:
            if slot.call is not self:
                self._select()
            address = slot.address
            # Copies live until the engine is on its stream; their memory goes back in the order of the caller's.
            kept = []
            for place, name, dtype in self._inputs:
                tensor = inputs[place]
                if tensor.dtype is not dtype:
                    tensor = tensor.to(dtype)
                if not tensor.is_contiguous():
                    tensor = tensor.contiguous()
                kept.append(tensor)
                address(name, tensor.data_ptr() or self._nowhere.data_ptr())
            outputs: list[Any] = []
            for name, shape, dtype, device in self._outputs:
                if shape is None:
                    outputs.append(None)
                    continue
                output = empty(shape, dtype=dtype, device=device)
                outputs.append(output)
                address(name, output.data_ptr() or self._nowhere.data_ptr())
            if not slot.execute():
                raise RunError("TensorRT failed to run the engine", messages_of(self._engine.trt))
            for place, allocator in self._allocators.items():
                outputs[place] = allocator.take(self._outputs[place][2], slot.last)
        for place in self._on_host:
            torch.cuda.synchronize(slot.device)
            outputs[place] = outputs[place].to(slot.device)
        for place, dtype in self._casts:
            outputs[place] = outputs[place].to(dtype)
        return outputs

    def _set_shapes(self) -> None:
        slot, engine = self._slot, self._engine
        for place, binding in enumerate(engine.inputs):
            if not slot.context.set_input_shape(binding.name, self._shapes[place]):
                shape = " x ".join(map(str, self._shapes[place]))
                raise RunError(
                    "TensorRT did not take a shape",
                    [("input", binding.name), ("shape", shape), *messages_of(engine.trt)],
                )
            if binding.on_host:
                slot.address(binding.name, self._hosts[place].data_ptr())

    def _select(self) -> None:
        """Make the context this call's: its shapes, where its fixed tensors lie, who allocates its outputs."""
        slot = self._slot
        for name in slot.allocated:
            slot.context.set_output_allocator(name, None)
        self._set_shapes()
        for name, tensor in self._unasked:
            slot.address(name, tensor.data_ptr())
        slot.allocated = [self._outputs[place][0] for place in self._allocators]
        for place, allocator in self._allocators.items():
            slot.context.set_output_allocator(self._outputs[place][0], allocator.for_tensorrt)
        slot.call = self

    def _output(self, binding: Binding) -> tuple[str, tuple[int, ...] | None, torch.dtype, torch.device]:
        """Name, shape (None where only the data decides it), dtype and device of an output."""
        shape = tuple(self._slot.context.get_tensor_shape(binding.name))
        where = torch.device("cpu") if binding.on_host else self._engine.device
        return binding.name, None if any(size < 0 for size in shape) else shape, binding.dtype, where


def _current_stream(index: int) -> int:
    return int(torch.cuda.current_stream(index).cuda_stream)
