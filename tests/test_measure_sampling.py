"""When are there enough samples? Checked against the binomial distribution and by simulation."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from perfgate.measure import sampling

durations = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60)


@given(durations)
def test_the_interval_holds_the_median_and_only_samples(samples: list[float]) -> None:
    low, high = sampling.median_interval(samples)

    assert low <= statistics.median(samples) <= high
    assert low in samples
    assert high in samples


@given(st.integers(1, 999), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_is_the_narrowest_of_its_confidence(count: int, confidence: float) -> None:
    low, high = sampling.median_interval(list(range(count)), confidence)

    assert high == count - 1 - low
    error = 1 - confidence
    if low > 0:
        assert 2 * binom.cdf(low, count, 0.5) <= error * (1 + 1e-9)
    assert 2 * binom.cdf(low + 1, count, 0.5) > error * (1 - 1e-9) or high - low <= 1


@pytest.mark.parametrize("count", [1000, 1001, 2500, 10_000])
def test_many_samples_have_the_interval_of_the_binomial_too(count: int) -> None:
    low, _ = sampling.median_interval(list(range(count)))

    assert low == pytest.approx(binom.ppf(0.025, count, 0.5) - 1, abs=1)


def test_the_order_of_samples_does_not_matter() -> None:
    samples = [float(number) for number in range(50)]
    shuffled = random.Random(0).sample(samples, len(samples))

    assert sampling.median_interval(shuffled) == sampling.median_interval(samples) == (17.0, 32.0)


def test_five_samples_cannot_be_95_percent_sure_of_less_than_their_range() -> None:
    assert sampling.median_interval([3.0, 1.0, 2.0, 5.0, 4.0]) == (1.0, 5.0)


def test_the_interval_covers_the_median_of_skewed_samples() -> None:
    rng = random.Random(1)
    hits = 0
    for _ in range(1000):
        low, high = sampling.median_interval([rng.expovariate(1.0) for _ in range(30)])
        hits += low <= 0.6931 <= high

    assert 940 <= hits <= 985


def test_no_samples_have_no_interval() -> None:
    with pytest.raises(ValueError) as caught:
        sampling.median_interval([])

    assert str(caught.value) == "the median of no samples has no interval"


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError) as caught:
        sampling.median_interval([1.0], confidence)

    assert str(caught.value) == f"a confidence lies between 0 and 1, not at {confidence}"


def test_enough_wants_the_least_number_of_samples_first() -> None:
    assert not sampling.enough([1.0] * 6, 0.01, 7)
    assert sampling.enough([1.0] * 7, 0.01, 7)
    assert not sampling.enough([], 0.01, 0)


def test_enough_compares_half_the_interval_with_the_target() -> None:
    # Six samples: the interval is the whole range, 0.06 around a median of 1.
    samples = [0.97, 0.98, 0.99, 1.01, 1.02, 1.03]

    assert sampling.enough(samples, 0.0301, 6)
    assert not sampling.enough(samples, 0.0299, 6)


@given(durations, st.floats(0.01, 100.0))
def test_enough_does_not_depend_on_the_unit(samples: list[float], scale: float) -> None:
    low, high = sampling.median_interval(samples)
    width = (high - low) / statistics.median(samples) / 2
    scaled = [sample * scale for sample in samples]

    assert sampling.enough(scaled, width * 1.001 + 1e-12, 1)
    assert not sampling.enough(scaled, width * 0.999 - 1e-12, 1)


def test_spread_is_the_interquartile_range_over_the_median() -> None:
    assert sampling.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert sampling.spread([7.0]) == 0.0
    assert sampling.spread([0.0, 0.0, 1.0]) == 0.0
