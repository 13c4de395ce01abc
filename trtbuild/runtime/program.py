"""A saved torch.export program as a function of flat tensors, its engines put back as modules.

The shapes were checked against the manifest before a call, so the program's own guards, which are generated Python, and
its packing of arguments are left out: its graph is called with the flat inputs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trtbuild.runtime.description import Description
from trtbuild.runtime.embedded import OP, Reader
from trtbuild.runtime.problems import LoadError
from trtbuild.runtime.weights_only import weights_only

_library: list[Any] = []

MakeEngine = Callable[[Reader], torch.nn.Module]


def register_op() -> None:
    """Make known the op that stands for an engine until its module takes its place."""
    if not _library:
        library = torch.library.Library("trtbuild", "DEF")
        library.define("run_engine(Tensor[] inputs, str name) -> Tensor[]")
        _library.append(library)


class Program:
    """A program's graph over flat inputs."""

    def __init__(self, module: torch.fx.GraphModule, inputs: Sequence[int | None], constants: Sequence[Any]) -> None:
        self._forward = module.forward
        self._module = module
        # Most programs take what the model takes; constants of the trace are inputs too, with a fixed value.
        self._plain = all(place is not None for place in inputs)
        self._inputs = list(zip(inputs, constants, strict=True))

    def __call__(self, flat: Sequence[Any]) -> list[Any]:
        """The flat outputs: tensors, sizes, and constants of the trace."""
        if not self._plain:
            flat = [constant if place is None else flat[place] for place, constant in self._inputs]
        with torch.no_grad():
            results = self._forward(*flat)
        if isinstance(results, torch.Tensor):
            return [results]
        return list(results)


def open_program(
    source: Any, description: Description, engines: Mapping[str, Reader], make: MakeEngine | None, *, trusted: bool
) -> Program:
    """The program in a file or a buffer. LoadError where torch cannot load it or it is not what the manifest says."""
    if engines:
        register_op()
    saved = _load(source, description, trusted)
    if isinstance(source, io.BytesIO):
        # Engines are read next: what is loaded need not lie in memory twice beside them.
        source.close()
    places, constants = _inputs(saved, description)
    module = saved.module(check_guards=False)
    del saved
    if engines and make is not None:
        _put_back(module, engines, make)
    module.graph.set_codegen(torch.fx.graph.CodeGen())
    module.recompile()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return Program(module, places, constants)


def _load(source: Path | Any, description: Description, trusted: bool) -> Any:
    try:
        if trusted:
            return torch.export.load(source)
        with weights_only():
            return torch.export.load(source)
    except Exception as error:
        raise LoadError(
            "torch cannot load the program",
            [
                ("raised", f"{type(error).__name__}: {str(error).strip() or 'no reason'}"),
                ("torch", str(torch.__version__)),
                ("built with", description.toolchain.get("torch", "unknown")),
            ],
        ) from error


def _inputs(saved: Any, description: Description) -> tuple[list[int | None], list[Any]]:
    """For each input of the graph, the place of its tensor among the flat inputs, or None and its constant."""
    placeholders = {node.name: node for node in saved.graph.nodes if node.op == "placeholder"}
    places: list[int | None] = []
    constants: list[Any] = []
    found = 0
    for name in saved.graph_signature.user_inputs:
        value = placeholders[name].meta.get("val") if isinstance(name, str) and name in placeholders else None
        if not isinstance(value, torch.Tensor):
            places.append(None)
            constants.append(None if isinstance(name, str) else name)
            continue
        if found < len(description.inputs):
            _check_shape(description.inputs[found], value)
        places.append(found)
        constants.append(None)
        found += 1
    if found != len(description.inputs):
        raise LoadError(
            "The program does not take what its manifest says",
            [("program", f"{found} tensors"), ("manifest", f"{len(description.inputs)} tensors")],
        )
    return places, constants


def _check_shape(facts: Any, value: torch.Tensor) -> None:
    """A size that varies by the manifest and is fixed in the program would give wrong numbers: nothing guards it."""
    fixed = [
        (axis, size)
        for axis, (size, wanted) in enumerate(zip(value.shape, facts.shape, strict=False))
        if isinstance(size, int) and not _may_be(size, wanted, facts)
    ]
    if fixed or value.dim() != len(facts.shape):
        raise LoadError(
            f"The program's input `{facts.name}` does not have the sizes that its manifest says",
            [
                ("program", " x ".join(map(str, value.shape))),
                ("manifest", " x ".join(map(str, facts.shape))),
            ],
            "A program that was traced again keeps sizes that vary only where its dynamic shapes are given.",
        )


def _may_be(size: int, wanted: int | str, facts: Any) -> bool:
    if isinstance(wanted, int):
        return size == wanted
    low, _, high = facts.ranges.get(wanted, (size, size, size))
    return bool(low == high == size) or not wanted.isidentifier()


def _put_back(module: torch.fx.GraphModule, engines: Mapping[str, Reader], make: MakeEngine) -> None:
    op = torch.ops.trtbuild.run_engine.default
    assert OP.endswith("run_engine.default")
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not op:
            continue
        inputs, name = node.args
        module.add_submodule(name, make(engines[name]))
        with module.graph.inserting_before(node):
            call = module.graph.call_module(name, tuple(inputs))
        call.meta.update(node.meta)
        node.replace_all_uses_with(call)
        module.graph.erase_node(node)
    module.graph.lint()
