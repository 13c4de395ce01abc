"""The result of a run as text: its artifacts, and one line that sums it up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trtbuild.api import BuildResult
    from trtbuild.publish import Artifact


def human_bytes(count: int) -> str:
    """A size in the largest unit that leaves a number above one."""
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def render_artifacts(artifacts: Sequence[Artifact]) -> str:
    """One line an artifact: path, size, verification."""
    width = max(len(artifact.path) for artifact in artifacts)
    return "\n".join(f"{a.path:<{width}}  {human_bytes(a.bytes):>9}  verification {a.verification}" for a in artifacts)


def render_summary(result: BuildResult) -> str:
    """What became of the stages, in one line."""
    counts = Counter(str(stage.status) for stage in result.stages)
    parts = [
        f"{counts[status]} {status}" for status in ("ran", "cached", "failed", "skipped", "pending") if counts[status]
    ]
    if result.left_out:
        parts.append(f"{len(result.left_out)} left out")
    return f"stages: {', '.join(parts) or 'none'}"
