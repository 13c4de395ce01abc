"""Where in a store what lies. Names hold the version of a shape: a new one is a new folder, `cache gc` drops the old.

    <cache>/format.json               {"format": 1}: a store of a newer trtbuild is refused, never guessed at
    <cache>/blobs-v1/ab/<digest>      content by sha256, read-only: an output, or a part of some
    <cache>/parts-v1/ab/<digest>.json an output kept in parts (see `parts`)
    <cache>/entries-v2/ab/<key>.json  the entry of a stage that succeeded; its mtime says when it was last used
    <cache>/reads-v2/ab/<key>.json    what stages with one declared record were seen to read, newest first
    <cache>/meanings-v2/ab/<digest>.json  canonical digest -> the output that first had that meaning
    <cache>/history-v2/...            last records of each step, for `explain`
    <cache>/logs-v1/...               the log of each step's last run
    <cache>/roots-v1/<digest>.json    a dist/ whose manifests name entries that `cache gc` keeps
    <cache>/tmp/<pid>-<random>/       one per run: folders of its jobs, and a lock that says it lives
    <cache>/locks/<name>              held while a stage of that key runs, or a dist/ is written

Every .json is in the form of `checked`, but for format.json.
"""

from __future__ import annotations

import re

BLOBS = "blobs-v1"
PARTS = "parts-v1"
ENTRIES = "entries-v2"
READS = "reads-v2"
MEANINGS = "meanings-v2"
HISTORY = "history-v2"
LOGS = "logs-v1"
ROOTS = "roots-v1"
# Of `memo` and `settled`, which remember what costs nothing but time.
PLANS = "plans-v1"
SETTLED = "settled-v1"
TMP = "tmp"
LOCKS = "locks"

KINDS = (BLOBS, PARTS, ENTRIES, READS, MEANINGS, HISTORY, LOGS, ROOTS)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSIONED = re.compile(r"([a-z]+)-v(\d+)")
_NOW = {name: int(version) for name, version in (kind.split("-v") for kind in KINDS)}


def is_digest(text: object) -> bool:
    """Whether a value read from a file is a digest: only then may it become part of a path."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def is_outdated(folder: str) -> bool:
    """Whether a folder of this name was written by an older trtbuild, and is read by none any more."""
    match = _VERSIONED.fullmatch(folder)
    return match is not None and match[1] in _NOW and int(match[2]) < _NOW[match[1]]
