"""Weights from a file into a model: .safetensors, or .pt and .pth read without running what they hold."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError

# What training scripts put around a state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHOWN = 6


def load_weights(model: Any, path: Path) -> None:
    """Load a state dict strictly. StageError where the file cannot be read or does not fit the model."""
    state = _read(path)
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    differing = [
        f"{name}: {_shape(state[name])} in the file, {_shape(wanted[name])} in the model"
        for name in wanted
        if name in state and hasattr(wanted[name], "shape") and _shape(state[name]) != _shape(wanted[name])
    ]
    if missing or unexpected or differing:
        facts = [("file", str(path))]
        facts += [
            (what, _some(names))
            for what, names in (("missing", missing), ("unexpected", unexpected), ("shapes", differing))
            if names
        ]
        hint = "Do the model's args fit the checkpoint?"
        if unexpected and all(name.startswith("module.") for name in state):
            hint = "`module.` before every name tells of DataParallel: save model.module.state_dict() instead."
        raise StageError("The weights do not fit the model", facts, hint)
    model.load_state_dict(state, strict=True, assign=False)


def _read(path: Path) -> dict[str, Any]:
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: dict[str, Any] = load_file(path)
            return loaded
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, error) from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise StageError(
            "The weights are no state dict",
            [("file", str(path)), ("holds", type(state).__name__)],
            "Save model.state_dict().",
        )
    return state


def _unreadable(path: Path, error: Exception) -> StageError:
    # torch's own text counsels weights_only=False, which runs whatever the file holds.
    held = re.search(r"(?:GLOBAL|Unsupported class|Unsupported global:) (?:GLOBAL )?([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError):
        reason = f"it holds {held[1] if held else 'more than tensors'}, and only tensors are read"
        hint = "Weights are never unpickled: save model.state_dict(), or convert it to .safetensors."
    else:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        hint = f"The file is cut off, damaged, or no {path.suffix} file: copy it again."
    return StageError("The weights cannot be read", [("file", str(path)), ("reason", reason)], hint)


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if hasattr(value, "shape") else f"no tensor but {type(value).__name__}"


def _some(names: list[str]) -> str:
    more = [f"... and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return "\n".join([*names[:_SHOWN], *more])
