"""The [export] section: how programs for Linux are written, by the names that torch_tensorrt.save uses."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from trtbuild.digest import Json
from trtbuild.recipe.fields import Section
from trtbuild.recipe.mistakes import invalid, shown

# What is about tracing the compiled program once more, and so says nothing where that is not done.
ABOUT_RETRACING = ("exporter", "dynamic_shapes", "pickle_protocol")


def _extra_files(files: dict[str, str]) -> dict[str, str]:
    for name, path in files.items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise invalid(
                f"The name `{name}` in {{here}} cannot name a file in every archive",
                hint="Letters, digits, dots, dashes and underscores.",
            )
        if not path or PurePosixPath(path).is_absolute():
            raise invalid("{here} must be a path relative to the recipe", at=(name,), got=shown(path))
    return files


class Export(Section):
    """How an `exported_program`, `torchscript` or `aot_inductor` for Linux is written."""

    retrace: bool = Field(
        default=False,
        description="Trace the compiled program once more with torch.export before it is saved, which needs a GPU. "
        "Without, the program is written as it was compiled, on any machine.",
    )
    exporter: Literal["legacy", "new"] = Field(
        default="new", description="With retrace: which of Torch-TensorRT's exporters writes the program."
    )
    dynamic_shapes: Literal["explicit", "inferred"] = Field(
        default="explicit",
        description="With retrace: the sizes that vary are given by [dims], or inferred by Torch-TensorRT.",
    )
    extra_files: Annotated[dict[str, str], AfterValidator(_extra_files)] = Field(
        default_factory=dict,
        description="Files put into the archive of an exported_program or torchscript: name there = path, relative to "
        "the recipe.",
        examples=[{"labels.txt": "labels.txt"}],
    )
    pickle_protocol: Annotated[int, Field(ge=2, le=5)] = Field(
        default=2, description="With retrace: the protocol of the pickles inside an exported_program."
    )

    def settings(self) -> dict[str, Json]:
        """What enters the key of an export that uses all of it; the extra files do so by their content."""
        given: dict[str, Any] = self.model_dump(mode="json", exclude={"extra_files"})
        return given if self.retrace else {"retrace": False}
