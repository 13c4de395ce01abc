"""What the store keeps of a stage that succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trtbuild.store.layout import is_digest


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a stage: identity and integrity by `digest`, meaning by `canonical`."""

    digest: str
    canonical: str
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"digest": self.digest, "canonical": self.canonical, "bytes": self.bytes}

    @staticmethod
    def from_json(data: Any) -> Output:
        """ValueError where a value is no output."""
        if not (
            isinstance(data, dict)
            and data.keys() == {"digest", "canonical", "bytes"}
            and is_digest(data["digest"])
            and isinstance(data["canonical"], str)
            and type(data["bytes"]) is int
            and data["bytes"] >= 0
        ):
            raise ValueError("this is no output")
        return Output(**data)


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
            "outputs": {name: output.to_json() for name, output in self.outputs.items()},
            "details": self.details,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
        }

    @staticmethod
    def from_json(data: Any) -> Entry:
        """ValueError where a value is no entry."""
        if not (
            isinstance(data, dict)
            and data.keys() == {"key", "record", "outputs", "details", "seconds", "peak_memory"}
            and is_digest(data["key"])
            and all(isinstance(data[name], dict) for name in ("record", "outputs", "details"))
            and type(data["seconds"]) in (int, float)
            and type(data["peak_memory"]) is int
        ):
            raise ValueError("this is no entry")
        return Entry(**{**data, "outputs": {name: Output.from_json(one) for name, one in data["outputs"].items()}})
