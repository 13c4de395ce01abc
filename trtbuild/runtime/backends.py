"""How each format is run, over flat tensors. Whether a file may be opened at all was decided before."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from trtbuild.runtime.cuda_graph import Graph
from trtbuild.runtime.description import Description
from trtbuild.runtime.engine import Engine, deserialise
from trtbuild.runtime.engine_header import check_header
from trtbuild.runtime.problems import LoadError

Run = Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]


_FORMATS = {"channels_last": torch.channels_last}


class Backend(Protocol):
    """What runs an artifact. `kept` is for how many sets of shapes a prepared run is worth keeping."""

    kept: int

    @property
    def engines(self) -> Mapping[str, Any]:
        """TensorRT's own engine objects by name, where they are ours to see."""

    def prepare(self, flat: Sequence[torch.Tensor]) -> Run | None:
        """What to call with flat inputs of these shapes, from now on; None where values count too, then `run` is."""

    def run(self, flat: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Run once."""


class EngineBackend:
    """A raw engine: the whole program."""

    def __init__(self, trt: Any, path: Path, description: Description, device: torch.device, cuda_graph: bool) -> None:
        names = [facts.name for facts in description.inputs]
        whole = description.whole
        if whole is None:
            raise LoadError("The manifest does not say how the engine's tensors are the model's", [("file", str(path))])
        unknown = [name for name in whole.inputs if name not in names]
        if unknown or len(whole.outputs) != len(description.outputs):
            raise LoadError(
                "The manifest's engine and its inputs and outputs do not agree", [("unknown", ", ".join(unknown))]
            )
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            with memoryview(data) as view:
                check_header(view, description.target.runtime, str(trt.__version__))
            # Read from the file's pages: the engine lies in memory once.
            engine = deserialise(trt, data, device, str(path))
        outputs = list(dict.fromkeys(whole.outputs))
        dtypes = {name: facts.dtype for name, facts in zip(whole.outputs, description.outputs, strict=True)}
        self._engine = Engine(
            trt,
            engine,
            device,
            whole.inputs,
            outputs,
            specialise=cuda_graph,
            result_dtypes=[getattr(torch, dtypes[name]) for name in outputs],
        )
        self._takes = [names.index(name) for name in whole.inputs]
        self._gives = [outputs.index(name) for name in whole.outputs]
        self._plain = self._takes == list(range(len(names))) and self._gives == list(range(len(outputs)))
        self._cuda_graph = cuda_graph
        self._by_value = any(binding.on_host for binding in self._engine.inputs)
        if cuda_graph and self._by_value:
            raise LoadError(
                "The engine cannot be captured in a CUDA graph: it reads an input on the CPU",
                [("inputs", ", ".join(binding.name for binding in self._engine.inputs if binding.on_host))],
            )
        self.kept = 16 if cuda_graph else 512
        self.engines: Mapping[str, Any] = {path.stem: engine}

    def prepare(self, flat: Sequence[torch.Tensor]) -> Run | None:
        """The engine's call at these shapes, or the graph that it is captured in."""
        if self._by_value:
            return None
        taken = [flat[place] for place in self._takes]
        call: Run = Graph(self._engine, taken) if self._cuda_graph else self._engine.call_for(taken)
        if self._plain:
            return call
        takes, gives = self._takes, self._gives

        def run(flat: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
            results = call([flat[place] for place in takes])
            return [results[place] for place in gives]

        return run

    def run(self, flat: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Run once, whatever the shapes."""
        results = self._engine(*[flat[place] for place in self._takes])
        return [results[place] for place in self._gives]


class FunctionBackend:
    """A function of flat tensors that copes with all shapes itself: programs of torch, ONNX."""

    kept = 512

    def __init__(self, function: Run, description: Description, engines: Mapping[str, Any] | None = None) -> None:
        self._function = function
        self._outputs = len(description.outputs)
        self._dtypes = [getattr(torch, facts.dtype, None) for facts in description.outputs]
        self._given = description.given
        self._formats = [_FORMATS.get(facts.format, torch.contiguous_format) for facts in description.inputs]
        self.engines: Mapping[str, Any] = engines or {}

    def prepare(self, flat: Sequence[torch.Tensor]) -> Run | None:
        """The function, whatever the shapes."""
        return self.run

    def run(self, flat: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Run once."""
        # Programs were traced, and AOTInductor's code was generated, for tensors that lie in memory as the recipe says;
        # of others the code would read the wrong elements.
        results = self._function(
            [
                tensor if tensor.is_contiguous(memory_format=form) else tensor.contiguous(memory_format=form)
                for tensor, form in zip(flat, self._formats, strict=True)
            ]
        )
        if len(results) == self._outputs:
            return self._as_the_model(results)
        if len(results) != len(self._given):
            raise LoadError(
                "The program does not give what its manifest says",
                [("program", f"{len(results)} results"), ("manifest", f"{self._outputs} results")],
            )
        # Some formats leave out what is the same in every run.
        whole: list[Any] = [None] * self._outputs
        for place, result in zip(self._given, results, strict=True):
            whole[place] = result
        return self._as_the_model(whole)

    def _as_the_model(self, results: Sequence[Any]) -> Sequence[Any]:
        """The results in the model's own dtypes: a program in mixed precision gives what it computed in."""
        for result, dtype in zip(results, self._dtypes, strict=True):
            if isinstance(result, torch.Tensor) and result.dtype is not dtype and result.is_floating_point():
                break
        else:
            return results
        return [
            result.to(dtype) if isinstance(result, torch.Tensor) and result.is_floating_point() and dtype else result
            for result, dtype in zip(results, self._dtypes, strict=True)
        ]
