"""What the store keeps of a stage that succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a stage: identity and integrity by `digest`, meaning by `canonical`."""

    digest: str
    canonical: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A stage's key, the record it was made from, its outputs by name, and small facts for manifests and reports.

    `seconds` is wall time of the stage, `peak_memory` its largest resident set in bytes.
    """

    key: str
    record: Mapping[str, Any]
    outputs: Mapping[str, Output]
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory: int = 0

    def canonical(self) -> str | dict[str, str]:
        """What downstream keys see of this entry: the meaning of each output."""
        return {name: output.canonical for name, output in sorted(self.outputs.items())}

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "record": self.record,
            "outputs": {
                name: {"digest": o.digest, "canonical": o.canonical, "bytes": o.bytes}
                for name, o in self.outputs.items()
            },
            "details": self.details,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Entry:
        outputs = {name: Output(**output) for name, output in data["outputs"].items()}
        return Entry(**{**data, "outputs": outputs})
