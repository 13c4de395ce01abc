"""Sizes and ages as people write them: `20GB`, `512 MiB`, `30d`."""

from __future__ import annotations

import re

_SIZES = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)},
}
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)


def bytes_from_text(text: str) -> int:
    """`20GB`, `1.5 GiB`, `500000000`: bytes. ValueError says what may be written."""
    number, unit = _parts(text, "a size", "20GB, 512MiB or 0")
    known = {name.lower(): size for name, size in _SIZES.items()}
    if unit and unit.lower() not in known:
        raise ValueError(f"{unit!r} is no unit of size; there are {', '.join(_SIZES)}")
    return int(number * known[unit.lower() or "b"])


def seconds_from_text(text: str) -> float:
    """`30d`, `12h`, `0`: seconds. ValueError says what may be written."""
    number, unit = _parts(text, "an age", "30d, 12h or 0")
    if number and not unit:
        raise ValueError(f"{text!r} has no unit: write {text.strip()}d for days, or one of {', '.join(_AGES)}")
    if unit and unit not in _AGES:
        raise ValueError(f"{unit!r} is no unit of time; there are {', '.join(_AGES)}")
    return number * _AGES.get(unit, 1)


def _parts(text: str, what: str, examples: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not {what}: write {examples}")
    return float(match[1]), match[2]
