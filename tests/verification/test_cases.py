"""The cases of a comparison: the corners of all ranges, and points within, each with values of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trtbuild.verification.cases import Case, cases

BATCH = {"min": 1, "opt": 4, "max": 8}
TOKENS = {"min": 2, "opt": 32, "max": 64}


def places(found: list[Case]) -> set[tuple[int, ...]]:
    return {tuple(case.at.values()) for case in found}


def test_corners_of_two_dims() -> None:
    found = cases({"batch": BATCH, "tokens": TOKENS}, [], samples=1, seed=0)
    corners = {(4, 32), (1, 2), (8, 64), (1, 32), (8, 32), (4, 2), (4, 64)}
    assert places(found[:-1]) == corners and len(found) == len(corners) + 1


def test_every_profile_has_its_corners() -> None:
    single = {"batch": {"min": 1, "opt": 1, "max": 1}, "tokens": {"min": 2, "opt": 16, "max": 48}}
    found = places(cases({"batch": BATCH, "tokens": TOKENS}, [single], samples=1, seed=0))
    assert {(1, 16), (1, 2), (1, 48)} <= found


def test_every_case_has_values_of_its_own_and_no_corner_comes_twice() -> None:
    found = cases({"batch": BATCH}, [{"batch": BATCH}], samples=3, seed=7)
    assert [case.seed for case in found] == [7, 8, 9, 10, 11, 12]
    assert [case.at["batch"] for case in found[:3]] == [4, 1, 8]


def test_static_inputs_need_seeds_only() -> None:
    assert cases({}, [], samples=2, seed=0) == [Case({}, 0), Case({}, 1), Case({}, 2)]
    fixed = {"batch": {"min": 4, "opt": 4, "max": 4}}
    assert places(cases(fixed, [], samples=3, seed=0)) == {(4,)}


def test_a_case_has_one_size_for_every_dim() -> None:
    assert Case({"batch": 3}, 0).dims() == {"batch": {"min": 3, "opt": 3, "max": 3}}
    assert str(Case({"batch": 3}, 5)) == "batch 3, seed 5"


RANGES = st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)).map(
    lambda steps: {"min": steps[0], "opt": steps[0] + steps[1], "max": sum(steps)}
)


@given(st.dictionaries(st.sampled_from("abc"), RANGES), st.integers(1, 4), st.integers(0, 2**40))
def test_all_points_lie_within_and_are_the_same_each_time(
    dims: dict[str, dict[str, int]], samples: int, seed: int
) -> None:
    found = cases(dims, [], samples, seed)
    assert found == cases(dims, [], samples, seed)
    assert all(dims[name]["min"] <= size <= dims[name]["max"] for case in found for name, size in case.at.items())
    for bound in ("min", "opt", "max"):
        assert {name: dim[bound] for name, dim in dims.items()} in [case.at for case in found]
