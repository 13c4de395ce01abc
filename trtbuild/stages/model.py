"""The model behind a recipe's entry point, ready to be exported: built under the seed, loaded, in eval, cast."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError, did_you_mean
from trtbuild.stages.inputs import cast_dtype
from trtbuild.stages.user_code import first_lines, user_line
from trtbuild.stages.weights import load_weights


def build_model(
    settings: Mapping[str, Any], workspace: Path, weights: Path | None, seen: Callable[[Any], None] = lambda model: None
) -> Any:
    """An nn.Module in eval mode, its parameters frozen and cast; `seen` gets it before it is cast.

    Entry points may give an nn.Module, a GraphModule, a ScriptModule or an ExportedProgram. StageError says in the
    user's own lines what does not import, is not callable, raises, or gives something else.
    """
    import torch

    entry = settings["entry"]
    _seed(settings["seed"])
    made = _call(_resolve(entry, workspace), entry, settings["args"])
    if isinstance(made, torch.export.ExportedProgram):
        model = made.module()
    elif isinstance(made, torch.nn.Module):
        model = made
    else:
        raise StageError(
            f"The entry point `{entry}` gives no model",
            [
                ("gives", type(made).__name__),
                ("wanted", "torch.nn.Module, ScriptModule, GraphModule or ExportedProgram"),
            ],
        )
    if weights is not None:
        load_weights(model, weights)
    if not isinstance(made, torch.export.ExportedProgram):
        model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    seen(model)
    dtype = cast_dtype(settings["cast"])
    if dtype is not None:
        model = model.to(getattr(torch, dtype))
    _own_storages(model)
    return model


def _seed(seed: int) -> None:
    """Seed every generator that a model may draw its weights from."""
    import random

    import torch

    random.seed(seed)
    torch.manual_seed(seed)
    with contextlib.suppress(ImportError):
        import numpy

        numpy.random.seed(seed % 2**32)


def _resolve(entry: str, workspace: Path) -> Any:
    where, _, name = entry.rpartition(":")
    if where.endswith(".py"):
        module = _import_file(workspace / where, entry)
    else:
        sys.path.insert(0, str(workspace))
        module = _import(lambda: importlib.import_module(where), entry)
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [other for other in dir(found) if not other.startswith("_")]
            raise StageError(
                f"The entry point `{entry}` does not exist",
                [("missing", part), ("in", where)],
                did_you_mean(part, names),
            )
        found = getattr(found, part)
    return found


def _import_file(path: Path, entry: str) -> Any:
    # The file is imported under its own stem with its folder on the path, as `python file.py` would find its
    # neighbours.
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise StageError(f"The entry point `{entry}` is no Python file", [("file", str(path))])
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    loader = spec.loader

    def load() -> Any:
        loader.exec_module(module)
        return module

    return _import(load, entry)


def _import(load: Any, entry: str) -> Any:
    try:
        return load()
    except StageError:
        raise
    except BaseException as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = f"Install what provides `{error.name}` into this environment, or correct the entry point."
        raise StageError(f"The entry point `{entry}` does not import", _facts(error), hint) from error


def _call(found: Any, entry: str, args: Mapping[str, Any]) -> Any:
    import torch

    if isinstance(found, torch.export.ExportedProgram) or (isinstance(found, torch.nn.Module) and not args):
        return found
    if not callable(found):
        raise StageError(
            f"The entry point `{entry}` is not callable",
            [("is", type(found).__name__)],
            "An entry point is a function or class that gives the model; `args` are its keyword arguments.",
        )
    try:
        return found(**args)
    except BaseException as error:
        facts = [*_facts(error), *([("args", ", ".join(f"{k} = {v!r}" for k, v in args.items()))] if args else [])]
        raise StageError(f"The entry point `{entry}` raised an error", facts) from error


def _facts(error: BaseException) -> list[tuple[str, str]]:
    line = user_line(error)
    return [("raised", first_lines(error)), *([("line", line)] if line else [])]


def _own_storages(model: Any) -> None:
    """Give every tensor that is a part of a larger storage one of its own: torch.export.save writes whole storages."""
    named = [*model.named_parameters(), *model.named_buffers()]
    users: dict[int, int] = {}
    for _, tensor in named:
        users[tensor.untyped_storage().data_ptr()] = users.get(tensor.untyped_storage().data_ptr(), 0) + 1
    for _, tensor in named:
        storage = tensor.untyped_storage()
        if storage.nbytes() > tensor.numel() * tensor.element_size() and users[storage.data_ptr()] == 1:
            tensor.data = tensor.data.clone()
