"""The figures of a comparison against numbers worked out by hand, and what holds for all tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from trtbuild.verification import compare as module  # noqa: E402
from trtbuild.verification.compare import Comparison, compare, scale_of  # noqa: E402
from trtbuild.verification.tolerances import Tolerance, default_rtol, tolerance_of  # noqa: E402

FLOATS = st.floats(-1e6, 1e6, width=32)
LISTS = st.lists(FLOATS, min_size=1, max_size=40)


def of(found: Any, reference: Any, rtol: float = 0.1, **more: Any) -> Comparison:
    def tensor(value: Any) -> Any:
        return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float32)

    return compare(tensor(found), tensor(reference), Tolerance(rtol, **more))


def test_figures_by_hand() -> None:
    found = of([1.5, 2.0, 0.25, -4.0], [1.0, 2.0, 0.0, -5.0], rtol=0.1, atol=0.0)
    assert found.max_abs == 1.0
    assert found.max_rel == 0.5
    assert found.mean_abs == (0.5 + 0.0 + 0.25 + 1.0) / 4
    dot, sizes = 1.5 + 4.0 + 20.0, math.sqrt(2.25 + 4.0 + 0.0625 + 16.0) * math.sqrt(1.0 + 4.0 + 25.0)
    assert found.cosine == pytest.approx(dot / sizes, rel=1e-12)
    # 0.5 > 0.1, 0 is fine, 0.25 where nothing is allowed, 1.0 > 0.5
    assert found.mismatched == 0.75
    assert found.of_tolerance == math.inf and not found.passed


def test_the_border_of_the_tolerance_passes() -> None:
    assert of([1.25], [1.0], rtol=0.25, atol=0.0).passed
    assert of([1.25], [1.0], rtol=0.125, atol=0.125).of_tolerance == 1.0
    assert not of([1.2500001], [1.0], rtol=0.25, atol=0.0).passed


def test_an_absent_atol_is_rtol_times_the_root_mean_square() -> None:
    found = of([0.0, 0.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0], rtol=0.1)
    assert found.atol == pytest.approx(0.1 * 2.5)
    assert of([0.2, 100.0], [0.0, 100.0], rtol=0.01).passed
    assert not of([0.2, 1.0], [0.0, 1.0], rtol=0.01).passed


def test_a_share_of_mismatches_may_be_allowed() -> None:
    off = torch.zeros(100)
    off[:3] = 1.0
    reference = torch.zeros(100)
    assert of(off, reference, atol=0.1).mismatched == pytest.approx(0.03)
    assert of(off, reference, atol=0.1, mismatch=0.03).passed
    assert not of(off, reference, atol=0.1, mismatch=0.02).passed


def test_infinities_pass_only_where_the_reference_has_the_same() -> None:
    inf = math.inf
    assert of([1.0, -inf], [1.0, -inf]).passed
    for found, reference in (([1.0, inf], [1.0, -inf]), ([1.0, inf], [1.0, 1e30]), ([1.0, 1.0], [1.0, inf])):
        compared = of(found, reference)
        assert not compared.passed and compared.max_abs is not None
    assert of([1.0, inf], [1.0, 5.0]).inf == 1


def test_nan_never_passes_even_where_the_reference_has_it_or_mismatches_are_allowed() -> None:
    nan = math.nan
    both = of([nan, 1.0], [nan, 1.0], mismatch=1.0)
    assert (both.nan, both.reference_nan, both.passed) == (1, 1, False)
    assert not of([1.0, 1.0], [nan, 1.0], mismatch=1.0).passed
    alone = of([nan, nan], [1.0, 1.0], mismatch=1.0)
    assert (alone.max_abs, alone.cosine, alone.passed) == (None, None, False)


def test_whole_numbers_and_bools_must_be_equal_unless_this_very_output_has_a_tolerance() -> None:
    large = torch.tensor([2**53, 2**53 + 1])
    assert compare(large, large.clone(), Tolerance(0.5)).passed
    off = compare(large, large - torch.tensor([0, 1]), Tolerance(0.5))
    assert off.mismatched == 0.5 and not off.passed
    assert compare(large, large - torch.tensor([0, 1]), Tolerance(0.5, mismatch=0.5)).passed
    assert compare(torch.tensor([101]), torch.tensor([100]), Tolerance(0.05, 0.0, given=True)).passed
    assert not compare(torch.tensor([True, False]), torch.tensor([True, True]), Tolerance(0.5)).passed


def test_masks_do_not_set_the_scale() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    plain = scale_of(values)
    for mask in (torch.finfo(torch.float32).min, -1e9, -1e4):
        assert scale_of(torch.cat([values, torch.full((500,), mask)])) == pytest.approx(plain)
    assert scale_of(torch.cat([values, torch.full((500,), -math.inf)])) == pytest.approx(plain)
    # Large numbers that are results set it.
    assert scale_of(values * 1e6) == pytest.approx(plain * 1e6)


def test_values_whose_squares_overflow_have_a_scale() -> None:
    huge = torch.tensor([1e200, -1e200], dtype=torch.float64)
    assert scale_of(huge) == pytest.approx(1e200)
    assert compare(huge, huge, Tolerance(1e-3)).cosine == pytest.approx(1.0)
    assert not compare(huge * 2, huge, Tolerance(1e-3)).passed


@pytest.mark.parametrize("shape", [(0,), (), (3, 0)])
def test_tensors_without_elements_or_dimensions(shape: tuple[int, ...]) -> None:
    assert compare(torch.ones(shape), torch.ones(shape), Tolerance(1e-3)).passed


def test_complex_numbers_are_compared_by_their_parts() -> None:
    one = torch.complex(torch.tensor([1.0]), torch.tensor([2.0]))
    assert compare(one, one.clone(), Tolerance(1e-3)).passed
    assert not compare(one, one.conj(), Tolerance(1e-3)).passed


def test_parts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    reference = torch.randn(7, 11, 13, generator=generator)
    found = (reference + 0.01 * torch.randn(reference.shape, generator=generator)).transpose(0, 2)
    reference = reference.transpose(0, 2)
    whole = compare(found, reference, Tolerance(0.02))
    monkeypatch.setattr(module, "_CHUNK", 10)
    parts = compare(found, reference, Tolerance(0.02))
    for name in ("max_abs", "max_rel", "mean_abs", "cosine", "mismatched", "atol", "of_tolerance"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    # As torch counts them.
    close = torch.isclose(found.double(), reference.double(), rtol=whole.rtol, atol=whole.atol)
    assert whole.mismatched == pytest.approx(1 - float(close.double().mean()))


@given(LISTS, st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]))
@settings(deadline=None, max_examples=200)
def test_what_is_identical_passes(numbers: list[float], dtype: Any) -> None:
    tensor = torch.tensor(numbers).to(dtype).nan_to_num(posinf=1.0, neginf=-1.0)
    found = compare(tensor, tensor.clone(), Tolerance(0.0, 0.0))
    assert found.passed and found.max_abs == 0.0 and found.mismatched == 0.0 and found.of_tolerance == 0.0


@given(LISTS, st.data())
@settings(deadline=None, max_examples=200)
def test_nan_anywhere_never_passes(numbers: list[float], data: st.DataObject) -> None:
    reference = torch.tensor(numbers)
    found = reference.clone()
    found[data.draw(st.integers(0, len(numbers) - 1))] = math.nan
    assert not compare(found, reference, Tolerance(1e9, 1e30, mismatch=1.0)).passed


@given(LISTS, LISTS, st.integers(-20, 3))
@settings(deadline=None, max_examples=200)
def test_the_default_tolerance_does_not_depend_on_the_scale(one: list[float], other: list[float], power: int) -> None:
    count = min(len(one), len(other))
    found, reference = torch.tensor(one[:count]).double() / 1e6, torch.tensor(other[:count]).double() / 1e6
    # A power of two scales without rounding.
    scaled = compare(found * 2.0**power, reference * 2.0**power, Tolerance(0.1))
    plain = compare(found, reference, Tolerance(0.1))
    assert scaled.passed == plain.passed and scaled.mismatched == plain.mismatched


@given(LISTS, LISTS, st.floats(0, 1), st.floats(0, 10))
@settings(deadline=None, max_examples=200)
def test_an_element_matches_as_torch_has_it(one: list[float], other: list[float], rtol: float, atol: float) -> None:
    count = min(len(one), len(other))
    found, reference = torch.tensor(one[:count]).double(), torch.tensor(other[:count]).double()
    close = torch.isclose(found, reference, rtol=rtol, atol=atol)
    assert compare(found, reference, Tolerance(rtol, atol)).passed == bool(close.all())


def test_tolerances_come_from_the_output_then_the_recipe_then_the_precision() -> None:
    place = {"precision": "fp16", "runtime": "tensorrt-rtx", "device": "cuda"}
    plain = {"verify": {"samples": 1, "reference": "float32", "outputs": {}}, **place}
    assert tolerance_of("y", plain) == Tolerance(2.0**-6)
    told = {"rtol": 0.5, "mismatch": 0.1, "outputs": {"y": {"atol": 0.25}, "z": {"mismatch": 0.2}}}
    both = {"verify": told, **place}
    assert tolerance_of("y", both) == Tolerance(0.5, 0.25, 0.1, given=True)
    assert tolerance_of("z", both) == Tolerance(0.5, None, 0.2)


def test_fp32_is_held_to_what_the_runtime_gives() -> None:
    assert default_rtol("fp32", "tensorrt-rtx", "cuda") == default_rtol("tf32", "tensorrt-rtx", "cuda")
    assert default_rtol("fp32", "torch", "cpu") == default_rtol("fp32", "tensorrt-rtx", "cpu") == 1e-4
    assert default_rtol("bf16", "torch", "cuda") == 0.125
