"""Sizes and ages as people write them."""

from __future__ import annotations

import pytest

from trtbuild.store.limits import bytes_from_text, seconds_from_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("20GB", 20 * 10**9),
        ("20gb", 20 * 10**9),
        ("1.5 GiB", 3 << 29),
        ("7", 7),
        ("2KB", 2000),
        ("1TB", 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_from_text(text) == size


@pytest.mark.parametrize(("text", "age"), [("30d", 2592000), ("12h", 43200), ("0", 0), ("0.5 m", 30), ("2w", 1209600)])
def test_ages(text: str, age: float) -> None:
    assert seconds_from_text(text) == age


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a size"),
        ("-1GB", "is not a size"),
        ("GB", "is not a size"),
        ("5 bananas", "no unit of size"),
        ("٣GB", "is not"),
    ],
)
def test_what_is_no_size_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bytes_from_text(text)


@pytest.mark.parametrize(("text", "said"), [("30", "30d for days"), ("x", "is not an age"), ("3y", "no unit of time")])
def test_what_is_no_age_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        seconds_from_text(text)
