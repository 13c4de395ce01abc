"""An ONNX artifact by onnxruntime as a function of flat tensors: on the CPU, or on the GPU where onnxruntime can."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from trtbuild.runtime.description import Description
from trtbuild.runtime.problems import LoadError


def require_onnxruntime(device: torch.device) -> Any:
    """onnxruntime, if it runs on this device. LoadError says what to install."""
    if find_spec("onnxruntime") is None:
        raise LoadError(
            "The artifact is an ONNX model, and onnxruntime is not installed", [], "pip install onnxruntime"
        )
    onnxruntime = import_module("onnxruntime")
    if device.type == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise LoadError(
            "The installed onnxruntime does not run on a GPU",
            [("it has", ", ".join(onnxruntime.get_available_providers()))],
            'Leave `device` out or set it to "cpu", or pip install onnxruntime-gpu.',
        )
    return onnxruntime


class Session:
    """An InferenceSession. Its inputs and outputs come in the order of the manifest's."""

    def __init__(self, ort: Any, path: Path, description: Description, device: torch.device) -> None:
        self._device = device
        if any(facts.dtype == "bfloat16" for facts in (*description.inputs, *description.outputs)):
            raise LoadError(
                "onnxruntime's Python interface has no bfloat16",
                [("precision", description.precision)],
                "The engine of the same recipe runs it.",
            )
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        try:
            self._session = ort.InferenceSession(str(path), providers=providers)
        except Exception as error:
            raise LoadError(
                "onnxruntime cannot load the model",
                [("raised", str(error).strip().splitlines()[0]), ("onnxruntime", ort.__version__)],
            ) from error
        takes = [item.name for item in self._session.get_inputs()]
        names = [facts.name for facts in description.inputs]
        unknown = [name for name in takes if name not in names]
        if unknown and len(takes) != len(names):
            raise LoadError(
                "The ONNX model does not take what its manifest says",
                [("model", ", ".join(takes)), ("manifest", ", ".join(names))],
            )
        # An input that the model does not use is no input of the graph.
        self._takes = [(name, place if unknown else names.index(name)) for place, name in enumerate(takes)]
        self._gives = [item.name for item in self._session.get_outputs()]

    def __call__(self, flat: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The flat outputs."""
        if self._device.type == "cuda":
            return self._on_gpu(flat)
        given = {name: flat[place].detach().contiguous().numpy() for name, place in self._takes}
        return [torch.from_numpy(result) for result in self._session.run(self._gives, given)]

    def _on_gpu(self, flat: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        import numpy

        binding, index = self._session.io_binding(), self._device.index or 0
        kept = []
        for name, place in self._takes:
            tensor = flat[place].detach().contiguous()
            kept.append(tensor)
            dtype = getattr(numpy, str(tensor.dtype).removeprefix("torch."))
            binding.bind_input(name, "cuda", index, dtype, tuple(tensor.shape), tensor.data_ptr())
        for name in self._gives:
            binding.bind_output(name, "cuda", index)
        # onnxruntime has a stream of its own.
        torch.cuda.current_stream(self._device).synchronize()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return [torch.from_dlpack(value._ortvalue.to_dlpack()) for value in binding.get_outputs()]
