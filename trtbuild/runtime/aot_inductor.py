"""An AOTInductor package as a function of flat tensors. Native code: opened only where it is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trtbuild.runtime.description import Description
from trtbuild.runtime.problems import LoadError
from trtbuild.runtime.structure import Binding, leaves


class Package:
    """A loaded package. Its own unpacking of structures is passed by: it would be read anew at every call."""

    def __init__(self, path: Path, description: Description, device: torch.device) -> None:
        import torch._inductor

        try:
            index = device.index if device.type == "cuda" and device.index is not None else -1
            self._model: Any = torch._inductor.aoti_load_package(str(path), device_index=index)
        except Exception as error:
            raise LoadError(
                "torch cannot load the AOTInductor package",
                [("raised", f"{error}".strip().splitlines()[-1][:400]), ("torch", str(torch.__version__))],
            ) from error
        self._run = getattr(getattr(self._model, "loader", None), "boxed_run", None)
        self._binding = Binding(description.parameters, len(description.inputs))

    def __call__(self, flat: Sequence[torch.Tensor]) -> list[Any]:
        """The flat outputs."""
        with torch.no_grad():
            if self._run is not None:
                return leaves(self._run(list(flat)))
            args, kwargs = self._binding.structured(flat)
            return leaves(self._model(*args, **kwargs))
