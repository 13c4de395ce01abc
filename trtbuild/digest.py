"""Digests of content: sha256 of bytes, and of values in one canonical form.

`digest` is of content; `key` is of a stage. sha256 because OCI, in-toto and Bazel's cache speak it.
"""

from __future__ import annotations

import hashlib
import json

# The run that finds a file touched and otherwise as it was imports this, and typing costs more than its digest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def digest_bytes(data: bytes | memoryview) -> str:
    """sha256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path | str) -> str:
    """sha256 of a file's bytes, in hex, never holding the file in memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Json) -> str:
    """The one text of a value: keys sorted, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_value(value: Json) -> str:
    """sha256 of a value's canonical text, in hex."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()
