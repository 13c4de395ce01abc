"""The source model in eager PyTorch, as the reference of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtbuild.errors import StageError
from trtbuild.stages.model import build_model
from trtbuild.stages.state import state_digest
from trtbuild.stages.user_code import first_lines, user_line


def exact_arithmetic() -> None:
    """Keep PyTorch from rounding on its own account: no TF32, no algorithm that changes from call to call."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def _other_weights(settings: Mapping[str, Any]) -> StageError:
    import torch

    return StageError(
        "The source model has other weights here than the one that the artifact was made from",
        [("entry", settings["entry"]), ("seed", str(settings["seed"])), ("torch", torch.__version__)],
        "Random weights depend on the versions of torch and torchvision: name a checkpoint as `weights` in [model],\n"
        "or compare with the versions that the manifest names.",
    )


class Source:
    """The source model, built as the trace builds it but cast by no precision, on a device.

    `device` is where it really runs: a model with tensors that it makes on the CPU itself, as one that was exported
    there, does not run on a GPU, and is then asked on the CPU. `state` is the digest of the traced model's state.
    """

    def __init__(
        self, settings: Mapping[str, Any], workspace: Path, weights: Path | None, device: str, state: str | None
    ) -> None:
        def same(model: Any) -> None:
            if state is not None and state_digest(model) != state:
                raise _other_weights(settings)

        self._model = build_model({**settings, "cast": "fp32"}, workspace, weights, same)
        self._entry = settings["entry"]
        self._reference = settings["verify"]["reference"]
        if self._reference == "float64":
            self._model = self._model.double()
        self._move(device)
        self._asked = False

    def __call__(self, args: Any, kwargs: Any) -> Any:
        """What the model gives. StageError in the user's own lines where it raises an error."""
        import torch

        try:
            return self._run(args, kwargs)
        except Exception as error:
            if self.device == "cpu" or self._asked or isinstance(error, torch.OutOfMemoryError):
                raise self._failed(error) from error
        self._move("cpu")
        try:
            return self._run(args, kwargs)
        except Exception as error:
            raise self._failed(error) from error

    def _run(self, args: Any, kwargs: Any) -> Any:
        import torch

        args, kwargs = torch.utils._pytree.tree_map(lambda tensor: tensor.to(self.device), (args, kwargs))
        with torch.no_grad():
            result = self._model(*args, **kwargs)
        if self.device != "cpu":
            # What a kernel did wrong is told when it has run.
            torch.cuda.synchronize()
        self._asked = True
        return result

    def _move(self, device: str) -> None:
        self.device = device
        self._model = self._model.to(device)

    def _failed(self, error: BaseException) -> StageError:
        line = user_line(error)
        facts = [("entry", self._entry), *([("line", line)] if line else []), ("raised", first_lines(error))]
        hint = ""
        if self._reference == "float64":
            hint = 'The model may make float32 tensors itself: `reference = "float32"` in [verify] compares without.'
        return StageError(f"The source model cannot be run in {self._reference}", facts, hint)
