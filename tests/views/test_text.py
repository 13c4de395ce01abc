"""Durations, shortened names, aligned columns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtbuild.views.text import aligned, counted, human_seconds, shorten_middle


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.0 s"),
        (4.06, "4.1 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.8, "1 h 00 min"),
        (3725, "1 h 02 min"),
    ],
)
def test_seconds(seconds: float, said: str) -> None:
    assert human_seconds(seconds) == said


def test_counted() -> None:
    assert [counted(number, "layer") for number in (0, 1, 2)] == ["0 layers", "1 layer", "2 layers"]


@given(st.text(), st.integers(0, 30))
@settings(deadline=None)
def test_a_shortened_text_fits_and_a_short_one_is_left_alone(text: str, width: int) -> None:
    found = shorten_middle(text, width)
    assert len(found) == min(len(text), width)
    assert len(text) > width or found == text


def test_shortening_keeps_both_ends() -> None:
    assert shorten_middle("resnet/trace/fp32", 11) == "resn...fp32"


def test_columns_are_aligned_and_empty_ones_take_no_room() -> None:
    assert aligned([("a", "", "1"), ("bbb", "", "22"), ("c",)]) == ["  a    1", "  bbb  22", "  c"]
    assert aligned([]) == []
