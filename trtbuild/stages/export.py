"""Export: an artifact for this platform from the portable compiled program."""

from __future__ import annotations

from typing import Any

from trtbuild.stages.whole_engine import take_whole_engine
from trtbuild.worker.job import Job


def run(job: Job) -> dict[str, Any]:
    """Write `model.engine`."""
    return take_whole_engine(job)
