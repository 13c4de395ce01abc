"""The values inside of a traced program: which there are, what they are in PyTorch, and a program that gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def load_program(path: Path) -> Any:
    """A traced program in functional form: what writes in place would change a value after it was looked at."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # Attention as it is compiled: what another kernel gives lies otherwise in memory, and a view of it may not fit.
    with sdpa_kernel(SDPBackend.MATH):
        return torch.export.load(path).run_decompositions({})


def value_names(program: Any) -> list[str]:
    """The floating tensors that are computed from the inputs, in order."""
    import torch

    live = set(program.graph_signature.user_inputs)
    found = []
    for node in program.graph.nodes:
        if node.op != "call_function" or not any(used.name in live for used in node.all_input_nodes):
            continue
        live.add(node.name)
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            found.append(node.name)
    return found


def values(program: Any, flat: Sequence[Any], names: Iterable[str], device: str) -> dict[str, Any]:
    """The values of these names, computed op by op on a device and handed back on the CPU."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    wanted = set(names)
    kept: dict[str, Any] = {}

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            result = super().run_node(node)
            if node.name in wanted:
                kept[node.name] = result.detach().to("cpu", copy=True)
            return result

    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        Recorder(program.graph_module).run(*_all_inputs(program, flat, device))
    return kept


def _all_inputs(program: Any, flat: Sequence[Any], device: str) -> list[Any]:
    """The inputs of the graph: parameters, buffers and constants, then what the user gives."""
    given = iter(flat)
    stored = {**program.constants, **program.state_dict}
    found = []
    for spec in program.graph_signature.input_specs:
        value = next(given) if spec.kind.name == "USER_INPUT" else stored[spec.target]
        found.append(value.to(device) if hasattr(value, "to") else value)
    return found


def with_values(program: Any, names: Sequence[str]) -> Any:
    """The program with these values as outputs more: it gives (what it gave, [values])."""
    from torch.export.exported_program import ExportedProgram
    from torch.export.graph_signature import ExportGraphSignature, OutputKind, OutputSpec, TensorArgument

    nodes = {node.name: node for node in program.graph.nodes}
    output = nodes["output"]
    output.args = ((*output.args[0], *(nodes[name] for name in names)),)
    signature = program.graph_signature
    more = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name=name), None) for name in names]
    entries = list(program.module_call_graph)
    call = entries[0].signature
    call.out_spec = _beside(call.out_spec, len(names))
    call.outputs = [*call.outputs, *(spec.arg for spec in more)] if call.outputs else call.outputs
    program.graph.lint()
    program.graph_module.recompile()
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=ExportGraphSignature(signature.input_specs, [*signature.output_specs, *more]),
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=entries,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _beside(structure: Any, count: int) -> Any:
    """The structure of a pair: one as it was, and a list of so many tensors."""
    from torch.utils import _pytree

    whole = _pytree.tree_unflatten(list(range(structure.num_leaves)), structure)
    return _pytree.tree_structure((whole, list(range(count))))


def place_of(program: Any, name: str) -> dict[str, str]:
    """An op, the module it is in, and the line of the user's code that made it, as far as the trace noted them."""
    node = next(node for node in program.graph.nodes if node.name == name)
    found = {"op": str(node.target), "name": name}
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    if modules and modules[-1][0]:
        path, kind = modules[-1]
        found["module"] = f"{path} ({kind if isinstance(kind, str) else kind.__qualname__})"
    if line := user_source(node.meta.get("stack_trace") or ""):
        found["source"] = line
    return found


def user_source(stack: str) -> str:
    """The innermost line of a stack that is the user's own, as `file:line: code`; else the innermost line of all."""
    from trtbuild.stages.user_code import is_theirs

    frames = re.findall(r'File "([^"]+)", line (\d+), in [^\n]*\n([^\n]*)', stack)
    if not frames:
        return ""
    file, line, code = next((frame for frame in reversed(frames) if is_theirs(frame[0])), frames[-1])
    return f"{file}:{line}: {code.strip()}"
