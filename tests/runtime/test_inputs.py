"""What a call is told when its tensors do not fit: input, axis, dim, size, range."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trtbuild.runtime.description import TensorFacts
from trtbuild.runtime.inputs import InputCheck
from trtbuild.runtime.problems import InputError

RANGES = {"batch": (1, 4, 8)}
CHECK = InputCheck(
    [
        TensorFacts("x", "float32", ("batch", 3), RANGES),
        TensorFacts("y", "int64", ("batch", "2*batch"), RANGES),
        TensorFacts("scalar", "float32", ()),
    ],
    torch.device("cpu"),
)


def longs(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def given(batch: int = 4, **other: Any) -> list[Any]:
    fitting = {
        "x": torch.zeros(batch, 3),
        "y": longs(batch, 2 * batch),
        "scalar": torch.tensor(1.0),
    }
    return list((fitting | other).values())


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_what_fits_passes(batch: int) -> None:
    CHECK(given(batch))


@pytest.mark.parametrize(
    ("tensors", "sentence", "facts"),
    [
        (given(9), "The dim `batch` is beyond the range", ["`x`, axis 0", "9, of batch x 3", "1 to 8"]),
        (given(0), "The dim `batch` is beyond the range", ["0, of batch x 3"]),
        (given(y=longs(5, 8)), "Two inputs differ in the dim `batch`", ["4 in `x`, axis 0", "5 in `y`"]),
        (given(y=longs(4, 7)), "`y` has a size that does not go with", ["axis", "2*batch = 8"]),
        (given(x=torch.zeros(4, 5)), "`x` has another size", ["1", "5, of 4 x 5", "3, of batch x 3"]),
        (given(x=torch.zeros(4)), "`x` has another number of axes", ["batch x 3"]),
        (given(x=torch.zeros(4, 3).half()), "`x` has another dtype", ["float16", "float32", ".to(torch.float32)"]),
        (given(x=torch.zeros(4, 3, device="meta")), "`x` is on another device", ["meta", "cpu"]),
        (given(x=[[1.0] * 3] * 4), "`x` is no tensor", ["list", "float32 batch x 3"]),
        (given(x=torch.zeros(4, 3).to_sparse()), "`x` is not dense", ["sparse"]),
        (given(scalar=torch.zeros(1)), "`scalar` has another number of axes", ["a scalar"]),
        (given()[:2], "takes another number of tensors", ["2", "x, y, scalar"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_full(tensors: list[Any], sentence: str, facts: list[str]) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        CHECK(tensors)
    assert isinstance(caught.value, ValueError)
    for fact in facts:
        assert fact in str(caught.value)
