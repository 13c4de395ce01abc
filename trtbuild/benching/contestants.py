"""What is measured: the artifact, and the peers that run its source model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trtbuild.errors import MachineError, TrtbuildError, UsageError, did_you_mean
from trtbuild.stages.user_code import first_lines

PEERS = ("eager", "torch.compile", "torch-tensorrt")

_MIXED = {"fp16-mixed": "float16", "bf16-mixed": "bfloat16"}
_CAST = {"fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to run the model, and what must be entered around calls of it."""

    run: Callable[..., Any]
    within: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant to be opened: its name in the rows, whether it runs by CUDA graphs, and how it is opened."""

    what: str
    cuda_graph: bool
    open: Callable[[], Contestant]
    note: str = ""

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.what} with CUDA graphs" if self.cuda_graph else self.what


def check_peers(names: Sequence[str]) -> None:
    """UsageError where there is no such peer."""
    for name in names:
        if name not in PEERS:
            raise UsageError(f"There is no peer `{name}`", [], did_you_mean(name, PEERS))


def artifact(open_artifact: Callable[[bool], Any], cuda_graph: bool) -> Entry:
    """The artifact itself; `open_artifact(cuda_graph)` gives the loaded module."""
    return Entry("artifact", cuda_graph, lambda: Contestant(open_artifact(cuda_graph)))


def eager(model: Callable[[], Any], precision: str, device: str) -> Entry:
    """The source model as PyTorch runs it."""
    return Entry("eager", False, lambda: Contestant(model(), _autocast(precision, device)), _in_words(precision))


def compiled(model: Callable[[], Any], precision: str, device: str, points: int, cuda_graph: bool) -> Entry:
    """torch.compile, for each point's sizes by itself: so it is at its best."""

    def open_() -> Contestant:
        import torch
        import torch._dynamo

        # Beyond the limit torch.compile would run the model eagerly, and not say so.
        config: Any = torch._dynamo.config
        limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
        setattr(config, limit, max(getattr(config, limit), 2 * points + 8))
        # Other tools of the process may have told torch.compile to fall back to eager where it fails.
        config.suppress_errors = False
        mode = "reduce-overhead" if cuda_graph else "default"
        return Contestant(torch.compile(model(), mode=mode, dynamic=False), _autocast(precision, device))

    return Entry("torch.compile", cuda_graph, open_, _in_words(precision))


def torch_tensorrt(program: Path | None, settings: Mapping[str, Any], graphs: Sequence[bool]) -> list[Entry]:
    """Torch-TensorRT called by hand: the traced program compiled for this GPU by the settings of the compile stage, the
    module called as its compiler gives it. With CUDA graphs it is the same module under Torch-TensorRT's own mode."""

    @cache
    def module() -> Any:
        if program is None:
            raise MachineError("The traced program is no longer in the store: `trtbuild run` makes it again")
        return _compiled_by_hand(program, settings)

    def opened(graph: bool) -> Callable[[], Contestant]:
        return lambda: Contestant(module(), _their_graphs if graph else nullcontext)

    return [Entry("torch-tensorrt", graph, opened(graph)) for graph in graphs]


def _compiled_by_hand(program_path: Path, settings: Mapping[str, Any]) -> Any:
    import torch
    from torch.export.passes import move_to_device_pass
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from trtbuild.stages.compile_torch_tensorrt import _inputs, _options

    compiler = _imported()
    program = move_to_device_pass(torch.export.load(program_path), "cuda")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        return compiler.dynamo.compile(program, **_inputs(settings), **_options(settings))


def _imported() -> Any:
    """Torch-TensorRT as it is: on a machine with a GPU only one fault of its import must be answered."""
    import importlib.util

    find_spec = importlib.util.find_spec
    # Fault (2.11): the RTX wheels ship a `plugin` package whose bindings are missing; finding it fails the import.
    vars(importlib.util)["find_spec"] = lambda name, *args: (
        None if name.startswith("tensorrt.plugin") else find_spec(name, *args)
    )
    try:
        import torch_tensorrt
    finally:
        vars(importlib.util)["find_spec"] = find_spec
    return torch_tensorrt


@contextmanager
def _their_graphs() -> Iterator[None]:
    import torch_tensorrt

    torch_tensorrt.runtime.set_cudagraphs_mode(True)
    try:
        yield
    finally:
        torch_tensorrt.runtime.set_cudagraphs_mode(False)


def _autocast(precision: str, device: str) -> Callable[[], AbstractContextManager[Any]]:
    if precision not in _MIXED:
        return nullcontext

    def entered() -> AbstractContextManager[Any]:
        import torch

        context: AbstractContextManager[Any] = torch.autocast(device, getattr(torch, _MIXED[precision]))
        return context

    return entered


def cast_of(precision: str) -> str:
    """The cast of a model in this precision, as the trace made it."""
    return precision if precision in _CAST else "fp32"


def _in_words(precision: str) -> str:
    if precision in _MIXED:
        return f"{_MIXED[precision]} by autocast"
    return _CAST.get(precision) or ("float32, TF32 allowed" if precision == "tf32" else "float32, no TF32")


def why(error: BaseException) -> str:
    """An error as a row tells it: one line."""
    text = first_lines(error, 1)
    if isinstance(error, TrtbuildError):
        facts = "; ".join(f"{name}: {value}" for name, value in error.facts[:2])
        text = f"{error.sentence} ({facts})" if facts else error.sentence
    return " ".join(text.split())[:300]
