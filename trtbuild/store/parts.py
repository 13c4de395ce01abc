"""Outputs kept in parts, so that a tensor which several of them hold is stored once.

    parts-v1/ab/<digest>.json   {"bytes": <of the whole>, "parts": [["<digest>", <bytes>], ...]}   in their order

Parts are blobs like others: one that is a whole output elsewhere is that output's blob too. That the parts make up the
output is checked whenever they are put together, by the digest of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from trtbuild.store.layout import is_digest


class Part(NamedTuple):
    """A stretch of an output: the blob that holds its bytes, and how many they are."""

    digest: str
    bytes: int


def list_to_json(parts: Sequence[Part]) -> dict[str, Any]:
    """What a list of parts is as JSON."""
    return {"bytes": sum(part.bytes for part in parts), "parts": [list(part) for part in parts]}


def list_from_json(data: Any) -> list[Part]:
    """A list of parts; ValueError where a value is none."""
    if not (isinstance(data, dict) and data.keys() == {"bytes", "parts"} and isinstance(data["parts"], list)):
        raise ValueError("this is no list of parts")
    parts = []
    for item in data["parts"]:
        if not (isinstance(item, list) and len(item) == 2 and is_digest(item[0]) and type(item[1]) is int):
            raise ValueError("this is no list of parts")
        parts.append(Part(*item))
    if not parts or any(part.bytes <= 0 for part in parts) or sum(part.bytes for part in parts) != data["bytes"]:
        raise ValueError("the parts do not make up the whole")
    return parts
