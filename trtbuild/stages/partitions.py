"""What of a compiled program runs in TensorRT, what in PyTorch, and why."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_CALLS = ("call_function", "call_method", "call_module")


def op_name(target: Any) -> str:
    """An op as recipes name it in torch_executed_ops: torch.ops.aten.relu.default."""
    from torch_tensorrt.dynamo.conversion._ConverterRegistry import ConverterRegistry

    return target if isinstance(target, str) else ConverterRegistry.qualified_name_or_str(target)


def ops_of(graph: Any) -> Counter[str]:
    """How often each op is called in a graph; taking an item from a tuple is no work and not counted."""
    return Counter(
        op_name(node.target) for node in graph.nodes if node.op in _CALLS and node.target is not operator.getitem
    )


def left_to_pytorch(module: Any, executed_ops: Iterable[str], min_block_size: int) -> list[dict[str, Any]]:
    """The ops of a compiled module that stay in PyTorch: [{"op", "count", "reason"}], the reasons in words."""
    from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS as CONVERTERS

    asked = set(executed_ops)
    found: Counter[tuple[str, str]] = Counter()
    for graph in _pytorch_graphs(module):
        for node in graph.nodes:
            if node.op not in _CALLS or node.target is operator.getitem or "_run_on_" in str(node.target):
                continue
            name = op_name(node.target)
            if name in asked:
                reason = "torch_executed_ops names it"
            elif CONVERTERS.get_unvalidated(node.target) is None:
                reason = "Torch-TensorRT has no converter for it"
            elif CONVERTERS.get(node) is None:
                reason = "Torch-TensorRT's converter does not take these arguments"
            else:
                reason = f"its block has fewer ops than min_block_size = {min_block_size}"
            found[name, reason] += 1
    return [{"op": op, "count": count, "reason": reason} for (op, reason), count in sorted(found.items())]


def _pytorch_graphs(module: Any) -> Iterable[Any]:
    yield module.graph
    for name, child in module.named_children():
        if "_run_on_gpu" in name and hasattr(child, "graph"):
            yield child.graph


def whole_engine(module: Any, output_names: Mapping[str, list[str]]) -> dict[str, Any] | None:
    """Where one engine is the whole program: {"engine", "inputs", "outputs"}, else None.

    `inputs` are the program's inputs that the engine takes, `outputs` the engine's output for each of the program's.
    """
    nodes = list(module.graph.nodes)
    calls = [node for node in nodes if node.op in _CALLS and node.target is not operator.getitem]
    if len(calls) != 1 or calls[0].op != "call_module" or calls[0].target not in output_names:
        return None
    call = calls[0]
    names = output_names[call.target]
    results = nodes[-1].args[0]
    outputs = []
    for result in results if isinstance(results, (tuple, list)) else [results]:
        if result is call:
            outputs.append(names[0])
        elif getattr(result, "target", None) is operator.getitem and result.args[0] is call:
            outputs.append(names[result.args[1]])
        else:
            return None
    if any(argument.op != "placeholder" for argument in call.args):
        return None
    return {"engine": call.target, "inputs": [argument.name for argument in call.args], "outputs": outputs}
