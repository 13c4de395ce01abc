"""What `trtbuild cache` found and did, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trtbuild.views.result import human_bytes
from trtbuild.views.text import aligned, counted

if TYPE_CHECKING:
    from trtbuild.store.gc import Collected
    from trtbuild.store.verify import Verified

_KINDS = {
    "damaged": "damaged files",
    "half-written": "half-written files",
    "outdated": "files of older versions",
    "parts": "lists of parts",
    "runs": "folders of killed runs",
}


def render_info(info: Mapping[str, Any]) -> str:
    """Where the store lies, what it takes, what sharing saves, and what is in it by kind of stage."""
    rows = [
        ("path", str(info["path"])),
        ("format", str(info["format"])),
        ("entries", f"{info['entries']:,}"),
        ("blobs", f"{info['blobs']:,}"),
        ("bytes", f"{info['bytes']:,}"),
        ("saved", f"{human_bytes(info['saved_by_copies'])} by outputs that are one, "
                  f"{human_bytes(info['saved_by_parts'])} by tensors that are one"),
        ("unused", f"{human_bytes(info['unreferenced_bytes'])} that no entry refers to"),
    ]  # fmt: skip
    kinds = [(kind, counted(one["entries"], "stage"), human_bytes(one["bytes"])) for kind, one in info["kinds"].items()]
    return "\n".join([*aligned(rows, ""), *(["by stage, as if nothing was shared", *aligned(kinds)] if kinds else [])])


def render_collected(done: Collected) -> str:
    """What was removed, or would be."""
    verb = "would be removed" if done.dry_run else "removed"
    rows = [(_KINDS.get(kind, kind), f"{count:,}") for kind, count in done.removed.items()]
    lines = [f"{verb}: {human_bytes(done.freed)}" if rows else "nothing to remove", *aligned(rows)]
    kept = f"kept: {counted(done.kept, 'stage')}"
    if done.kept_for_dist or done.kept_for_runs:
        kept += f", {done.kept_for_dist} of them for artifacts in dist/, {done.kept_for_runs} for runs that go on"
    lines.append(kept)
    if done.over:
        lines.append(
            f"still {human_bytes(done.over)} over the size asked: artifacts in dist/ and running builds need it"
        )
    return "\n".join(lines)


def render_verified(done: Verified) -> str:
    """What was read, what was dropped, and which stages run again."""
    read = sum(done.read.values())
    lines = [f"read {counted(read, 'file')}, {human_bytes(done.bytes)}"]
    if done.abandoned:
        lines.append(f"removed {counted(len(done.abandoned), 'folder')} of killed runs")
    if not done.damaged:
        return "\n".join([*lines, "all is as it was written"])
    lines += [
        f"dropped {counted(len(done.damaged), 'damaged or incomplete file')}",
        *(f"  {name}" for name in done.damaged),
    ]
    if done.stages:
        lines += ["these stages will run again", *(f"  {stage}" for stage in done.stages)]
    return "\n".join(lines)
