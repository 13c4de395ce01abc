"""Sizes that pass from one part of a compiled program to another.

Fault (2.11, 2.14): the partitioner lets parts hand sizes to each other. An engine gives and takes a tensor for it, a
PyTorch part a number, the graph says SymInt for both, and the program can neither be saved nor run. Here an engine's
size stays a tensor between engines, a PyTorch part takes the size from the program's inputs, where it is known
anyway, and an engine that takes a size from a PyTorch part gets it as a tensor.
"""

from __future__ import annotations

import operator
from typing import Any


def settle_sizes(module: Any) -> None:
    """Rewrite a compiled module in place: engines give and take tensors only."""
    import torch
    from torch._guards import detect_fake_mode

    graph = module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    fake_mode = detect_fake_mode([node.meta["val"] for node in placeholders if "val" in node.meta])
    engines = [node for node in graph.nodes if node.op == "call_module" and "_run_on_acc" in str(node.target)]
    from_engines: set[Any] = set()
    for call in engines:
        values = call.meta.get("val")
        if not isinstance(values, (list, tuple)):
            continue
        for item in [user for user in call.users if user.target is operator.getitem]:
            value = values[item.args[1]]
            if isinstance(value, torch.SymInt):
                from_engines.add(item)
                others = [user for user in item.users if user not in engines]
                if others:
                    with graph.inserting_after(placeholders[-1]):
                        size = _size(graph, placeholders, value)
                    for user in others:
                        user.replace_input_with(item, size)
        with fake_mode:
            call.meta["val"] = [
                torch.empty((1,), dtype=torch.int64) if isinstance(value, torch.SymInt) else value for value in values
            ]
    for call in engines:
        for argument in [
            a for a in call.all_input_nodes if a not in from_engines and isinstance(a.meta.get("val"), torch.SymInt)
        ]:
            with graph.inserting_before(call):
                tensor = graph.call_function(
                    torch.ops.aten.full.default,
                    ([1], argument),
                    {"dtype": torch.int64, "device": torch.device("cpu"), "pin_memory": False},
                )
            with fake_mode:
                tensor.meta["val"] = torch.empty((1,), dtype=torch.int64)
            call.replace_input_with(argument, tensor)
    graph.lint()
    module.recompile()


def _size(graph: Any, placeholders: list[Any], value: Any) -> Any:
    """A node that gives a size of one of the program's inputs. LookupError where none has it."""
    import torch

    for placeholder in placeholders:
        for axis, size in enumerate(getattr(placeholder.meta.get("val"), "shape", ())):
            if isinstance(size, torch.SymInt) and size.node.expr == value.node.expr:
                node = graph.call_function(torch.ops.aten.sym_size.int, (placeholder, axis))
                node.meta["val"] = value
                return node
    raise LookupError(f"no input of the program has the size {value}")
