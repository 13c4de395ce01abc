"""Trace: the model as a saved ExportedProgram, with named dims and the precision's cast in the graph.

Source: https://docs.pytorch.org/docs/stable/export.html
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from trtbuild.errors import StageError, did_you_mean
from trtbuild.insides import Beside
from trtbuild.stages.inputs import cast_inputs, dynamic_shapes, example, split, tensors
from trtbuild.stages.model import build_model
from trtbuild.stages.state import state_digest
from trtbuild.stages.user_code import first_lines, user_line
from trtbuild.worker.job import Job


def run(job: Job) -> dict[str, Any]:
    """Write `program.pt2`.

    Details: the signature of the program, as `digests.program` reads it, the digest of the model's state, and what is
    inside of the weights' file.
    """
    import torch

    from trtbuild.digests.program import program_signature

    settings = job.settings
    weights = Beside(job.files.get("weights"))
    state: list[str] = []
    model = build_model(
        settings, job.workspace, job.files.get("weights"), lambda source: state.append(state_digest(source))
    )
    inputs = cast_inputs(settings["inputs"], settings["cast"])
    args, kwargs = example(inputs, settings["dims"], settings["seed"])
    program = _export(model, args, kwargs, inputs, settings)
    _check_ranges(program, inputs, settings["dims"])
    if settings["decompositions"] == "tensorrt":
        program = _decompose(program)
    path = job.out / "program.pt2"
    torch.export.save(program, path)
    return {
        "signature": program_signature(path),
        "state": state[0],
        "insides": {"files": {"weights": weights.result()}},
    }


def _export(model: Any, args: Any, kwargs: Any, inputs: list[dict[str, Any]], settings: Mapping[str, Any]) -> Any:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    dims = {
        name: torch.export.Dim(name, min=dim["min"], max=dim["max"])
        for name, dim in settings["dims"].items()
        if dim["min"] != dim["max"]
    }
    if isinstance(model, torch.jit.ScriptModule):
        model = _from_torchscript(model, args, kwargs)
    shapes = _by_parameter(model, inputs, dims)
    try:
        # Attention is compiled from its plain formula (see compile_torch_tensorrt), whose results lie otherwise in
        # memory than those of the CPU's own kernel: a view that fits the one need not fit the other.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=settings["strict"])
    except BaseException as error:
        raise _cannot_export(error, settings) from error


def _from_torchscript(model: Any, args: Any, kwargs: Any) -> Any:
    """A ScriptModule as an exportable module, by torch's own converter."""
    from torch._export.converter import TS2EPConverter

    try:
        return TS2EPConverter(model, args, kwargs).convert().module()
    except BaseException as error:
        raise StageError(
            "The ScriptModule cannot be converted to an exported program",
            [("raised", first_lines(error))],
            "Give the nn.Module that it was scripted from as the entry point.",
        ) from error


def _by_parameter(model: Any, inputs: list[dict[str, Any]], dims: Mapping[str, Any]) -> dict[str, Any]:
    """dynamic_shapes by the names of forward()'s parameters. StageError where the inputs do not fit forward()."""
    positional, keyword = split(inputs)
    signature = inspect.signature(model.forward)
    names = [name for name, p in signature.parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for place, spec in enumerate(positional):
        if spec["name"] in names and place < len(names) and names[place] != spec["name"]:
            raise StageError(
                f"The input `{spec['name']}` is in another place than in forward()",
                [("inputs", ", ".join(s["name"] for s in positional)), ("forward", f"{signature}")],
                "Inputs come in the order of forward(); `keyword = true` passes one by name.",
            )
    shapes, keyword_shapes = dynamic_shapes(inputs, dims)
    try:
        return dict(signature.bind(*shapes, **keyword_shapes).arguments)
    except TypeError as error:
        raise StageError(
            "The inputs do not fit forward()",
            [
                ("reason", str(error)),
                ("inputs", ", ".join([*(s["name"] for s in positional), *(f"{n}=" for n in keyword)])),
                ("forward", f"{signature}"),
            ],
            _fitting_hint(keyword, signature),
        ) from error


def _fitting_hint(keyword: Mapping[str, Any], signature: inspect.Signature) -> str:
    named = [n for n, p in signature.parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [name for name in keyword if name not in named]
    if unknown and not takes_any:
        return f"forward() has no parameter `{unknown[0]}`. {did_you_mean(unknown[0], named)}".strip()
    return (
        "Every parameter of forward() without a default takes one [inputs.NAME], in its order or with keyword = true."
    )


def _cannot_export(error: BaseException, settings: Mapping[str, Any]) -> StageError:
    text = str(error)
    line = user_line(error)
    facts = [("entry", settings["entry"])]
    if line:
        facts.append(("line", line))
    if "Constraints violated" in text or "must match the size of tensor" in text or "must always be equal" in text:
        body = [part.strip() for part in text.splitlines() if part.strip().startswith("- ")] or [text.splitlines()[0]]
        fixes = text.partition("Suggested fixes:")[2].split("\n\n")[0].split()
        facts.append(("torch says", "\n".join(body)))
        hint = f"torch.export suggests: {' '.join(fixes)}." if fixes else ""
        return StageError(
            "The dims of the recipe do not agree with the model",
            [*facts, ("dims", _dims_text(settings["dims"]))],
            (
                hint + "\nInputs that must have one size share one name in [dims]; a fixed size is written as a number."
            ).strip(),
        )
    if (
        type(error).__name__ in ("GuardOnDataDependentSymNode", "Unsupported", "UserError")
        or "data-dependent" in text.lower()
    ):
        return StageError(
            "The model cannot be exported: its control flow depends on data",
            [*facts, ("torch says", first_lines(error, 3))],
            "Use torch.where or torch.cond in place of the Python branch, or move it out of forward().",
        )
    return StageError(
        "The model cannot be exported",
        [*facts, ("raised", first_lines(error, 12)), ("inputs", _inputs_text(settings["inputs"]))],
        "Do the shapes and dtypes in [inputs] fit forward()?",
    )


def _inputs_text(inputs: list[dict[str, Any]]) -> str:
    def text(spec: Mapping[str, Any]) -> str:
        return f"{spec['dtype']} {' x '.join(map(str, spec['shape']))}"

    return "\n".join(f"{group['name']}: {', '.join(text(spec) for spec in tensors(group))}" for group in inputs)


def _dims_text(dims: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{name} {dim['min']}..{dim['max']}" for name, dim in dims.items()) or "none"


def _check_ranges(program: Any, inputs: list[dict[str, Any]], dims: Mapping[str, Mapping[str, int]]) -> None:
    """What torch.export recorded must be what the recipe asked: a range that shrank would fail at run time."""
    ranges = program.range_constraints
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [placeholders[name].meta["val"] for name in program.graph_signature.user_inputs if name in placeholders]
    specs = [spec for group in inputs for spec in tensors(group)]
    for spec, value in zip(specs, values, strict=True):
        for axis, size in enumerate(spec["shape"]):
            dim = dims.get(size) if isinstance(size, str) else None
            if dim is None or dim["min"] == dim["max"]:
                continue
            symbol = getattr(getattr(value.shape[axis], "node", None), "expr", None)
            found = ranges.get(symbol)
            if found is None or int(found.lower) > dim["min"] or int(found.upper) < dim["max"]:
                raise StageError(
                    f"The model does not take the whole range of the dim `{size}`",
                    [
                        ("asked", f"{dim['min']}..{dim['max']}"),
                        (
                            "exported",
                            f"{found.lower}..{found.upper}" if found is not None else f"only {value.shape[axis]}",
                        ),
                    ],
                    "torch.export treats sizes 0 and 1 apart: where the model does too, begin the dim at 2."
                    if found is not None and int(found.lower) == 2
                    else "Narrow the dim in [dims], or write the size as a number in `shape`.",
                )


def _decompose(program: Any) -> Any:
    """Torch-TensorRT's decompositions, applied to the saved program instead of at compile time."""
    from trtbuild.stages.gpuless import import_torch_tensorrt

    import_torch_tensorrt()
    from torch_tensorrt.dynamo.lowering import get_decompositions

    program = program.run_decompositions(get_decompositions(False))
    for node in program.graph.nodes:
        # Holds the address of a graph, which would make every saved file differ.
        node.meta.pop("from_node", None)
    return program
