"""Where artifacts are measured by default, and which points are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtbuild.benching.points import checked_points, default_points
from trtbuild.errors import UsageError

BATCH = {"min": 1, "opt": 8, "max": 32}


def test_powers_of_two_between_the_ends_of_the_first_dim() -> None:
    assert default_points({"batch": BATCH}) == [{"batch": size} for size in (1, 2, 4, 8, 16, 32)]


def test_ends_and_opt_that_are_no_powers_of_two() -> None:
    sizes = [point["batch"] for point in default_points({"batch": {"min": 3, "opt": 5, "max": 20}})]
    assert sizes == [3, 4, 5, 8, 16, 20]


def test_other_dims_stand_at_their_opt_but_at_the_corners() -> None:
    points = default_points({"batch": {"min": 1, "opt": 2, "max": 4}, "tokens": {"min": 16, "opt": 64, "max": 128}})
    assert points == [
        {"batch": 1, "tokens": 16},
        {"batch": 1, "tokens": 64},
        {"batch": 2, "tokens": 64},
        {"batch": 4, "tokens": 64},
        {"batch": 4, "tokens": 128},
    ]


def test_without_dims_there_is_one_point() -> None:
    assert default_points({}) == [{}]


DIM = st.tuples(st.integers(1, 500), st.integers(0, 500), st.integers(0, 500)).map(
    lambda drawn: {"min": drawn[0], "opt": drawn[0] + drawn[1], "max": drawn[0] + drawn[1] + drawn[2]}
)


@given(st.dictionaries(st.sampled_from(["batch", "tokens", "width"]), DIM))
def test_default_points_are_points(dims: dict[str, dict[str, int]]) -> None:
    points = default_points(dims)
    assert checked_points(points, dims) == points
    assert len({tuple(point.items()) for point in points}) == len(points)
    for bound in ("min", "max"):
        assert {name: dim[bound] for name, dim in dims.items()} in points


def test_dims_that_are_not_named_stand_at_their_opt() -> None:
    assert checked_points([{"batch": 2}, {}], {"batch": BATCH, "tokens": BATCH}) == [
        {"batch": 2, "tokens": 8},
        {"batch": 8, "tokens": 8},
    ]


def test_a_size_beyond_the_range() -> None:
    with pytest.raises(UsageError, match="The dim `batch` cannot be 64") as raised:
        checked_points([{"batch": 64}], {"batch": BATCH})
    assert ("takes", "1..32") in raised.value.facts


def test_an_unknown_dim() -> None:
    with pytest.raises(UsageError, match="no dim `batsh`") as raised:
        checked_points([{"batsh": 2}], {"batch": BATCH})
    assert "`batch`" in raised.value.hint
