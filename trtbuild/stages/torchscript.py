"""TorchScript: an exported program as one function in TorchScript's own language.

torch.jit.trace would run the program once more and keep what Python then computed as constants, sizes among them, and
calls models with named or nested inputs in its own way. A program that torch.export made is a list of calls of ops
already: it is written down as the body of `forward`, one line an op, so that sizes stay sizes, and the file is the same
from every build. `forward` takes the program's tensors one after the other, as torch flattens the model's arguments,
and gives back its outputs likewise: one as it is, several as a tuple.

Source: https://docs.pytorch.org/docs/stable/jit_language_reference_v2.html
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.stages.portable import extra_texts
from trtbuild.stages.user_code import first_lines

_INFIX = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.floordiv: "//",
    operator.truediv: "/",
    operator.mod: "%",
    operator.pow: "**",
    operator.eq: "==",
    operator.ne: "!=",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
}

# Checks of what tracing assumed; they compute nothing.
_CHECKS = ("_assert", "sym_constrain_range")


def write_torchscript(program: Any, extra: Mapping[str, Path], target: Path) -> None:
    """Write an ExportedProgram as TorchScript. StageError names what TorchScript has no words for."""
    import torch

    constants, source = _source(program)

    class Program(torch.jit.ScriptModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for name, value in constants.items():
                if isinstance(value, torch.Tensor):
                    self.register_buffer(name, value.detach())
                else:
                    setattr(self, name, value)
            self.define(source)

    try:
        module = Program().eval()
    except RuntimeError as error:
        raise StageError(
            "TorchScript does not take an op of the program",
            [("raised", first_lines(error, 12))],
            "`exported_program` and `aot_inductor` take every op that torch.export does.",
        ) from error
    torch.jit.save(module, target, _extra_files=extra_texts(extra))


def _source(program: Any) -> tuple[dict[str, Any], str]:
    """The program's constants by name, and `forward` as text."""
    from torch.export.graph_signature import ConstantArgument, InputKind

    constants: dict[str, Any] = {}
    names: dict[str, str] = {}
    given = []
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind is not InputKind.USER_INPUT:
            held = program.constants if spec.target in program.constants else program.state_dict
            constants[node.name] = held[spec.target]
            names[node.name] = f"self.{node.name}"
        elif isinstance(spec.arg, ConstantArgument):
            names[node.name] = repr(spec.arg.value)
        else:
            names[node.name] = node.name
            given.append(node.name)
    lines = [f"def forward(self, {', '.join(given)}):"]
    for node in program.graph.nodes:
        if node.op == "call_function" and not (_is_check(node.target) and not node.users):
            lines.append(f"    {node.name} = {_call(node, names)}")
            names[node.name] = node.name
        elif node.op == "get_attr":
            # A graph in the graph, for an op that is refused where it comes.
            names[node.name] = node.name
    results = [_text(value, names) for value in _outputs(program)]
    lines.append(f"    return {results[0] if len(results) == 1 else '(' + ', '.join(results) + ')'}")
    return constants, "\n".join(lines) + "\n"


def _outputs(program: Any) -> list[Any]:
    from torch.export.graph_signature import OutputKind

    values = next(node for node in reversed(program.graph.nodes) if node.op == "output").args[0]
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    if any(kind is not OutputKind.USER_OUTPUT for kind in kinds):
        raise _no_words("a buffer that the model changes")
    return list(values)


def _is_check(target: Any) -> bool:
    return getattr(target, "__name__", str(target)).removeprefix("aten.").startswith(_CHECKS)


def _call(node: Any, names: Mapping[str, str]) -> str:
    import torch

    target, args = node.target, [_text(value, names) for value in node.args]
    if target is operator.getitem:
        return f"{args[0]}[{args[1]}]"
    if target in _INFIX:
        return f"{args[0]} {_INFIX[target]} {args[1]}"
    if target is operator.neg:
        return f"-{args[0]}"
    if target in (torch.sym_max, torch.sym_min, torch.sym_float, torch.sym_int, math.ceil, math.floor):
        return f"{target.__name__.removeprefix('sym_')}({', '.join(args)})"
    if not isinstance(target, torch._ops.OpOverload):
        raise _no_words(str(target))
    keywords = [f"{name}={_text(value, names)}" for name, value in node.kwargs.items()]
    namespace, name = target._schema.name.split("::")
    # TorchScript calls this op by the name that tensors have for it.
    name = "size" if (namespace, name) == ("aten", "sym_size") else name
    return f"torch.ops.{namespace}.{name}({', '.join([*args, *keywords])})"


def _text(value: Any, names: Mapping[str, str]) -> str:
    """An argument as TorchScript source."""
    import torch

    if isinstance(value, torch.fx.Node):
        return names[value.name]
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(item, names) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or isinstance(value, (bool, int, float, str)):
        # In brackets where it has a sign: a power binds more tightly.
        return f"({value!r})" if isinstance(value, (int, float)) and value < 0 else repr(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
        return str(value)
    raise _no_words(f"{type(value).__name__} {value}")


def _no_words(what: str) -> StageError:
    return StageError(
        "TorchScript has no words for a part of the program",
        [("part", what)],
        "`exported_program` and `aot_inductor` take what torch.export does.",
    )
