"""Quantiles, and what a row says of its samples."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtbuild.benching.samples import Samples, quantile, summary


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(float(numpy.quantile(values, share)), rel=1e-9, abs=1e-9)


def test_nothing_measured() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        quantile([], 0.5)


def test_a_row_counts_items_and_not_calls() -> None:
    samples = Samples(device_ms=[1.0, 2.0, 3.0], host_ms=[4.0], calls=3, busy_s=0.5)
    samples.add(Samples(device_ms=[4.0, 5.0], host_ms=[6.0], calls=2, busy_s=0.5))
    assert summary(samples, items=8) == {
        "median_ms": 3.0,
        "p90_ms": 4.6,
        "p99_ms": 4.96,
        "host_median_ms": 5.0,
        "host_p99_ms": 5.98,
        "throughput_per_s": 40.0,
        "samples": 5,
    }
