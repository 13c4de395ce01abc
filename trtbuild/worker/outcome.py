"""How a job ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: `status` is the exit code, negative for a signal; `result` what it wrote, if it could."""

    folder: Path
    status: int
    peak_memory: int
    result: dict[str, Any] | None
