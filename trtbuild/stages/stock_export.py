"""The program itself, loaded where it runs: what the formats are made from that are written by running it.

A compiled program is put together as `linux_program` writes it, and loaded by plain torch.export.load with its engines
on the GPU. `retrace` is torch_tensorrt.save's: the program exported once more, engines as ops in it.
Source: https://docs.pytorch.org/TensorRT/user_guide/saving_models.html
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.files import read_json
from trtbuild.stages.inputs import Spec, dynamic_shapes, example, map_tensors, split
from trtbuild.stages.linux_program import write_linux_program, write_torch_program
from trtbuild.stages.placeholders import hardware_compatible
from trtbuild.stages.portable import extra_texts
from trtbuild.stages.user_code import first_lines
from trtbuild.worker.job import Job

# The newest that torch.load(weights_only=True) reads.
_SAFE_PROTOCOL = 3


def load_program(job: Job) -> Any:
    """The job's program as an ExportedProgram on its device, with example inputs.

    StageError where there is no GPU for one that needs it, or the GPU is not the one it was compiled for.
    """
    import torch

    device = job.settings["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise StageError(
            f"The format {job.settings['format']} of a program for a GPU is written on a GPU, and there is none",
            [("format", job.settings["format"])],
            "Build it on a machine with a GPU: what is compiled already is taken from the store.",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.pt2")
        if "compiled" in job.inputs:
            _check_gpu(job.settings["compute_capability"])
            _import_torch_tensorrt()
            compiled = job.inputs["compiled"]
            report = read_json(compiled["report.json"])
            engines = {engine["name"]: compiled[engine["file"]] for engine in report["engines"]}
            write_linux_program(compiled["program.pt2"], engines, {}, path)
        else:
            write_torch_program(job.inputs["program"]["program.pt2"], device, {}, path)
        try:
            program = torch.export.load(path)
        except RuntimeError as error:
            raise _cannot_load(error) from error
    program.example_inputs = example_inputs(job.settings)
    return program


def _check_gpu(capabilities: list[str]) -> None:
    """StageError where Torch-TensorRT's runtime would not load the engines on this GPU, which it says by a warning."""
    import torch

    here = ".".join(map(str, torch.cuda.get_device_capability()))
    if here in capabilities or hardware_compatible(capabilities):
        return
    raise StageError(
        "The program must run to be written, and its engines do not run on this GPU",
        [
            ("GPU", f"{torch.cuda.get_device_name()}, compute capability {here}"),
            ("built for", ", ".join(capabilities)),
        ],
        "Build on a GPU that the target names. A program for several compute capabilities, all of 8.0 or more, is\n"
        "loaded by Torch-TensorRT on any GPU from 8.0 on.",
    )


def example_inputs(settings: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example (args, kwargs) on the program's device, at each dim's opt."""
    import torch

    args, kwargs = example(settings["inputs"], settings["dims"], seed=0)
    moved: tuple[tuple[Any, ...], dict[str, Any]] = torch.utils._pytree.tree_map(
        lambda tensor: tensor.to(settings["device"]), (args, kwargs)
    )
    return moved


def retraced(program: Any, settings: Mapping[str, Any]) -> Any:
    """The program exported once more, by the exporter and with the dynamic shapes that the recipe asks for.

    What torch_tensorrt.save(retrace=True) does before it writes; save itself takes no nested inputs.
    """
    import torch

    # What guards check, the loader checks; the exporters would take the checks for parts of the model.
    module = program.module(check_guards=False)
    export = settings["export"]
    inferred = export["dynamic_shapes"] == "inferred"
    shapes = _shapes(module, settings, shared=not inferred)
    args, kwargs = program.example_inputs
    try:
        with torch.no_grad():
            if export["exporter"] == "legacy" and _has_engines(module):
                return _legacy(module, args, kwargs)
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        hint = 'Dims that inputs share want `dynamic_shapes = "explicit"` in [export].' if inferred else ""
        raise StageError(
            "The compiled program cannot be exported once more", [("raised", first_lines(error, 12))], hint
        ) from error


def save_program(program: Any, settings: Mapping[str, Any], extra: Mapping[str, Path], target: Path) -> None:
    """Write an ExportedProgram with torch.export.save, which is what torch_tensorrt.save calls for one.

    With a pickle protocol of 4 or 5 the example inputs are left out: torch's safe unpickler does not read them, and
    torch.export.load would then unpickle them with the one that runs whatever is in the file.
    """
    import torch

    protocol = settings["export"]["pickle_protocol"]
    if protocol > _SAFE_PROTOCOL:
        program.example_inputs = None
    for node in program.graph.nodes:
        # Both name folders of the machine, or addresses in its memory.
        node.meta.pop("from_node", None)
        node.meta.pop("stack_trace", None)
    torch.export.save(program, target, extra_files=extra_texts(extra) or None, pickle_protocol=protocol)


def _legacy(module: Any, args: Any, kwargs: Any) -> Any:
    """By the exporter that traces nothing: sizes keep the symbols and ranges that they have."""
    from torch_tensorrt.dynamo._exporter import export

    return export(module, arg_inputs=args, kwarg_inputs=kwargs, use_legacy_exporter=True)


def _has_engines(module: Any) -> bool:
    return any("execute_engine" in str(node.target) for node in module.graph.nodes)


def _shapes(module: Any, settings: Mapping[str, Any], shared: bool) -> dict[str, Any] | None:
    """dynamic_shapes by the parameters of the module; not `shared`: every size of every input a dim of its own, as
    torch_tensorrt.save infers them from Input(min_shape, opt_shape, max_shape)."""
    from torch.export import Dim

    dims = {
        name: Dim(name, min=dim["min"], max=dim["max"])
        for name, dim in settings["dims"].items()
        if dim["min"] != dim["max"]
    }
    if not dims:
        return None
    if shared:
        positional, keyword = dynamic_shapes(settings["inputs"], dims)
    else:
        count = iter(range(1 << 30))

        def own(spec: Spec) -> dict[int, Any]:
            return {
                axis: Dim(f"{size}_{next(count)}", min=settings["dims"][size]["min"], max=settings["dims"][size]["max"])
                for axis, size in enumerate(spec["shape"])
                if isinstance(size, str) and size in dims
            }

        specs, named = split(settings["inputs"])
        positional = [map_tensors(spec, own) for spec in specs]
        keyword = {name: map_tensors(spec, own) for name, spec in named.items()}
    return dict(inspect.signature(module.forward).bind(*positional, **keyword).arguments)


def _import_torch_tensorrt() -> None:
    try:
        import torch_tensorrt  # noqa: F401
    except ImportError as error:
        raise StageError(
            "Torch-TensorRT cannot be imported",
            [("raised", first_lines(error))],
            "`trtbuild doctor` says what is missing.",
        ) from error


def _cannot_load(error: RuntimeError) -> StageError:
    return StageError("The compiled program cannot be loaded", [("raised", first_lines(error, 12))])
