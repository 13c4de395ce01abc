"""The result of a run as text: its artifacts, and one line that sums it up."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ORDER = ("ran", "cached", "failed", "skipped", "pending")


def human_bytes(count: int) -> str:
    """A size in the largest unit that leaves a number above one."""
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def artifact_rows(artifacts: Sequence[tuple[str, int, str]]) -> str:
    """One line an artifact: path, size, verification."""
    width = max(len(path) for path, _, _ in artifacts)
    return "\n".join(f"{path:<{width}}  {human_bytes(size):>9}  verification {said}" for path, size, said in artifacts)


def summary(counts: Mapping[str, int], left_out: int) -> str:
    """What became of the stages, by status, and of the cells that this machine cannot build; in one line."""
    parts = [f"{counts[status]} {status}" for status in _ORDER if counts.get(status)]
    if left_out:
        parts.append(f"{left_out} left out")
    return f"stages: {', '.join(parts) or 'none'}"
