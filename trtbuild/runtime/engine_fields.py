"""An engine inside a program as Torch-TensorRT writes it: a list of texts, by place.

2.11 writes 11 fields, 2.14 13; a Windows program of 2.11 lacks the last. Places have only been added at the end, so a
list is read by its first ten, and cut or filled up for the Torch-TensorRT that is to run it.
Source: core/runtime/runtime.h, dynamo/runtime/_serialized_engine_layout.py of Torch-TensorRT.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from trtbuild.runtime.problems import LoadError

ABI, NAME, DEVICE, ENGINE, INPUTS, OUTPUTS, HARDWARE_COMPATIBLE, METADATA, PLATFORM, OUTPUT_ALLOCATOR = range(10)

# Fields after the tenth, where a program does not have them: no dynamic resources, one device, nothing aliased.
_LATER = {10: "0", 11: "0", 12: ""}
_DELIMITER = "%"
_NEEDED = 9


@dataclass(frozen=True, slots=True)
class EngineFields:
    """The fields of one engine; `engine` is its bytes, the ENGINE field itself is left empty."""

    fields: list[str]
    engine: bytes

    @classmethod
    def of(cls, fields: Sequence[str], engine: bytes | None = None) -> EngineFields:
        """From texts. LoadError where they are too few or the engine is no base64."""
        if len(fields) < _NEEDED:
            raise LoadError("An engine of the program is described by too little", [("fields", str(len(fields)))])
        try:
            data = base64.b64decode(fields[ENGINE], validate=True) if engine is None else engine
        except (binascii.Error, ValueError) as error:
            raise LoadError("An engine of the program is damaged", [("engine", fields[NAME])]) from error
        return cls([*fields[:ENGINE], "", *fields[ENGINE + 1 :]], data)

    @property
    def name(self) -> str:
        """The engine's name in the program."""
        return self.fields[NAME]

    @property
    def platform(self) -> str:
        """linux_x86_64 or windows_x86_64."""
        return self.fields[PLATFORM]

    @property
    def inputs(self) -> list[str]:
        """The engine's inputs in the order of the call."""
        return self.fields[INPUTS].split(_DELIMITER) if self.fields[INPUTS] else []

    @property
    def outputs(self) -> list[str]:
        """The engine's outputs in the order of the results."""
        return self.fields[OUTPUTS].split(_DELIMITER) if self.fields[OUTPUTS] else []

    def for_torch_tensorrt(self, length: int, abi: str, platform: str, device: str) -> list[str | bytes]:
        """The fields as the installed Torch-TensorRT takes them, for this machine's platform and GPU.

        Metadata is a pickle that only tracing reads; it is left out, so that nothing ever unpickles it.
        """
        texts = [*self.fields, *(_LATER.get(place, "") for place in range(len(self.fields), length))]
        fields: list[str | bytes] = list(texts[:length])
        fields[ABI], fields[PLATFORM], fields[DEVICE] = abi, platform, device
        fields[ENGINE], fields[METADATA] = self.engine, ""
        return fields
