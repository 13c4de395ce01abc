"""Narrowing down to the first value that is off, with few measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from trtbuild.verification.compare import Comparison
from trtbuild.verification.marks import first_off, spread


def comparison(passed: bool, of_tolerance: float = 0.0) -> Comparison:
    return Comparison(0.0, 0.0, 0.0, 1.0, 0.0, 0, 0, 0.1, 0.0, of_tolerance if passed else 7.0, 1.0, 0, passed)


class Values:
    """Values of which all from one on are off."""

    def __init__(self, count: int, off: int, near: float = 0.0) -> None:
        self.names = [f"v{index}" for index in range(count)]
        self.off, self.near = off, near
        self.asked: list[int] = []

    def __call__(self, names: Sequence[str]) -> Mapping[str, Comparison]:
        self.asked.append(len(names))
        return {name: comparison(int(name[1:]) < self.off, self.near) for name in names}


@given(st.integers(1, 400), st.data())
def test_the_first_is_found_in_two_rounds(count: int, data: st.DataObject) -> None:
    off = data.draw(st.integers(0, count - 1))
    values = Values(count, off)
    found = first_off(values.names, values, coarse=8, fine=64)
    assert found is not None and found.name == f"v{off}"
    assert found.last_good == (f"v{off - 1}" if off else None)
    assert values.asked[0] <= 8 and len(values.asked) <= 2


def test_nothing_is_found_where_all_are_good() -> None:
    values = Values(50, 50)
    assert first_off(values.names, values) is None
    assert len(values.asked) == 1


def test_in_a_large_program_the_second_round_is_held_to_its_marks() -> None:
    values = Values(10_000, 5_003)
    found = first_off(values.names, values, coarse=16, fine=64)
    assert found is not None and max(values.asked) <= 64
    assert 5_003 <= int(found.name[1:]) <= 5_003 + 10_000 // 16 // 64 + 1


def test_values_that_are_right_once_they_are_looked_at_are_told_of() -> None:
    names = [f"v{index}" for index in range(100)]

    def measure(some: Sequence[str]) -> Mapping[str, Comparison]:
        return {name: comparison(len(some) != 10 or int(name[1:]) < 50) for name in some}

    found = first_off(names, measure, coarse=10, fine=64)
    assert found is not None and found.name == "v59" and "how layers are fused" in found.note


def test_an_error_that_grows_from_layer_to_layer_blames_no_layer() -> None:
    found = first_off(Values(5, 3).names, Values(5, 3, near=0.9))
    assert found is not None and "no single one is to blame" in found.note


def test_values_that_cannot_be_measured_are_passed_over() -> None:
    values = Values(40, 20)

    def measure(some: Sequence[str]) -> Mapping[str, Comparison]:
        return {name: found for name, found in values(some).items() if int(name[1:]) % 2}

    found = first_off(values.names, measure)
    assert found is not None and found.name == "v21" and found.last_good == "v19"


def test_marks_are_spread_and_the_last_is_among_them() -> None:
    assert spread(["a", "b", "c"], 5) == ["a", "b", "c"]
    assert spread([str(n) for n in range(100)], 4) == ["24", "49", "74", "99"]
