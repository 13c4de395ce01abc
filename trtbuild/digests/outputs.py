"""What a job says of each file it made: identity, meaning and parts, no byte digested more often than it must be."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from trtbuild.digest import digest_file
from trtbuild.digests import meaning_of
from trtbuild.digests.archive import digest_payloads
from trtbuild.digests.stretches import LARGE, Stretch, cut, large_tensors


def describe_output(path: Path, *, meaning: bool) -> dict[str, Any]:
    """Digest, canonical digest, bytes, and the "parts" to keep a file in: [digest, bytes] of each, in their order.

    Without `meaning`, where no other stage reads the file, the digest of its bytes stands for it.
    """
    size = path.stat().st_size
    if size < LARGE:
        digest = digest_file(path)
        canonical = meaning_of(path) if meaning else None
        return {"digest": digest, "canonical": canonical or f"raw:{digest}", "bytes": size}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as beside:
        # The digest of the whole is one chain of its own; the parts, and by them the meaning, are known beside it.
        whole = beside.submit(digest_file, path)
        stretches = large_tensors(path)
        parts = _digests(path, cut(size, stretches)) if stretches else {}
        canonical = meaning_of(path, parts) if meaning else None
        digest = whole.result()
    found = {"digest": digest, "canonical": canonical or f"raw:{digest}", "bytes": size}
    return {**found, "parts": [[parts[one], one[1] - one[0]] for one in parts]} if parts else found


def _digests(path: Path, stretches: list[Stretch]) -> dict[Stretch, str]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        views = {stretch: view[slice(*stretch)] for stretch in stretches}
        try:
            found = digest_payloads(views)
        finally:
            for one in (*views.values(), view):
                one.release()
    return {stretch: found[stretch] for stretch in stretches}
