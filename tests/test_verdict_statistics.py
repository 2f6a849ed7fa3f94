"""The rank test against brute force and scipy; deviation, error of a median and t against known values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from perfgate.verdict.statistics import (
    median_error,
    moderated_deviation,
    rank_p_value,
    smallest_p_value,
    t_quantile,
)


def by_hand(baseline: list[float], current: list[float]) -> float:
    """Try every way to call len(current) of the pooled values "current"."""
    pooled = [*baseline, *current]
    ranks = stats.rankdata(pooled)
    observed = sum(ranks[len(baseline) :])
    sums = [sum(ranks[i] for i in chosen) for chosen in itertools.combinations(range(len(pooled)), len(current))]
    return sum(total >= observed for total in sums) / len(sums)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.lists(st.integers(0, 6), min_size=1, max_size=6),
)
def test_rank_p_value_is_the_share_of_permutations_ties_included(baseline: list[int], current: list[int]) -> None:
    assert rank_p_value(baseline, current) == pytest.approx(by_hand(baseline, current), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_rank_p_value_without_ties_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    baseline, current = rng.normal(0, 1, 5), rng.normal(0.5, 1, 12)
    exact = stats.mannwhitneyu(current, baseline, alternative="greater", method="exact").pvalue
    assert rank_p_value(baseline.tolist(), current.tolist()) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(("recorded", "now", "ways"), [(5, 4, 126), (5, 8, 1287), (5, 12, 6188), (1, 4, 5)])
def test_complete_separation_has_the_smallest_p_value(recorded: int, now: int, ways: int) -> None:
    baseline, current = list(range(recorded)), list(range(100, 100 + now))
    assert rank_p_value(baseline, current) == smallest_p_value(recorded, now) == 1 / ways
    assert rank_p_value(current, baseline) == 1


def test_values_that_are_all_equal_are_no_evidence() -> None:
    assert rank_p_value([3.0] * 5, [3.0] * 4) == 1


def test_the_prior_raises_the_deviation_of_processes_that_agree_by_chance() -> None:
    baseline, current = np.array([0.0, 0.0, 0.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 0.0])
    deviation, degrees = moderated_deviation(baseline, current, 0.11)
    assert float(deviation) == pytest.approx(math.sqrt(4 * 0.11**2 / (4 + 7)))
    assert int(degrees) == 11


def test_the_prior_never_lowers_a_deviation_that_was_measured() -> None:
    baseline, current = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.array([-1.0, 1.0])
    deviation, degrees = moderated_deviation(baseline, current, 0.01)
    assert float(deviation) == pytest.approx(math.sqrt(12 / 5))
    assert int(degrees) == 9


def test_without_a_prior_the_measured_deviation_stands_alone() -> None:
    baseline, current = np.array([[-2.0, -1.0, 0.0, 1.0, 2.0], [7.1] * 5]), np.array([[-1.0, 1.0], [8.3] * 2])
    deviation, degrees = moderated_deviation(baseline, current, 0.0)
    assert deviation.tolist() == [pytest.approx(math.sqrt(12 / 5)), 0.0]
    assert int(degrees) == 5


def test_two_single_processes_without_a_prior_leave_no_deviation() -> None:
    deviation, degrees = moderated_deviation(np.array([1.0]), np.array([2.0]), 0.0)
    assert (float(deviation), int(degrees)) == (0.0, 1)


# Exact standard deviations of the median of n standard normal values (variances 1, .5, .4487, .2868, .1661).
@pytest.mark.parametrize(("n", "exact"), [(1, 1.0), (2, 0.70711), (3, 0.66983), (5, 0.53556), (9, 0.40756)])
def test_the_error_of_a_median(n: int, exact: float) -> None:
    assert median_error(n) == pytest.approx(exact, rel=0.011 if n % 2 else 0.11)
    assert n % 2 or median_error(n) >= exact


@pytest.mark.parametrize(("degrees", "tail", "value"), [(4, 0.025, 2.776), (11, 0.005, 3.106), (1, 0.1, 3.078)])
def test_t_quantiles_from_the_table(degrees: int, tail: float, value: float) -> None:
    assert float(t_quantile(np.array(degrees), tail)) == pytest.approx(value, abs=5e-4)
