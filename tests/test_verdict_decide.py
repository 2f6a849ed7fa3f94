"""The verdict on one metric: properties of the decision function, and every word with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from perfgate.model import Limit, Metric, MetricVerdict, Noise, StoredMetric, Verdict
from perfgate.verdict.decide import decide, settle

LIMIT, NOISE = Limit(0.1), Noise(0.02)
Better = Literal["lower", "higher"]
OPPOSITE = {Verdict.REGRESSED: Verdict.IMPROVED, Verdict.IMPROVED: Verdict.REGRESSED}
# From the best word to the worst; what is undecided or within limits lies between.
ORDER = {Verdict.IMPROVED: 0, Verdict.UNCHANGED: 1, Verdict.INCONCLUSIVE: 1, Verdict.REGRESSED: 2}


def judge(
    stored: Sequence[float],
    current: Sequence[float],
    *,
    last: bool = True,
    limit: Limit = LIMIT,
    noise: Noise = NOISE,
    better: Better = "lower",
    unit: str = "s",
) -> MetricVerdict:
    metrics = [Metric("time", unit, value, better, limit, noise) for value in current]
    return decide(StoredMetric("time", unit, better, tuple(stored)), metrics, last=last)


positive = st.floats(0.5, 2.0)
signed = st.floats(-2.0, 2.0).filter(lambda x: x == 0 or abs(x) > 1e-6)
baselines = st.lists(positive, min_size=1, max_size=7)
currents = st.lists(positive, min_size=1, max_size=12)
limits = st.sampled_from([Limit(), Limit(0.02), Limit(0.3), Limit(0.02, 0.1)])
noises = st.sampled_from([Noise(), Noise(0.003), Noise(0.04), Noise(0.003, 0.02)])
betters = st.sampled_from(["lower", "higher"])
few = settings(max_examples=150, deadline=None)


@st.composite
def clear_cases(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Two groups that lie close together, around 1 and around some shift, so that every word is reached."""
    spread = draw(st.sampled_from([0.0, 0.001, 0.01, 0.05]))
    near = st.floats(-spread, spread).map(lambda x: round(x, 6))
    shift = draw(st.floats(-0.7, 0.7))
    stored = draw(st.lists(near, min_size=1, max_size=6))
    current = draw(st.lists(near, min_size=1, max_size=12))
    return [math.exp(x) for x in stored], [math.exp(x + shift) for x in current]


@few
@given(clear_cases(), st.floats(1.0, 3.0), limits, noises, betters, st.booleans())
def test_monotone_making_it_slower_never_moves_the_verdict_towards_improved(
    case: tuple[list[float], list[float]], slower: float, limit: Limit, noise: Noise, better: Better, last: bool
) -> None:
    stored, current = case
    factor = slower if better == "lower" else 1 / slower
    before = judge(stored, current, last=last, limit=limit, noise=noise, better=better)
    after = judge(stored, [factor * x for x in current], last=last, limit=limit, noise=noise, better=better)
    assert ORDER[after.verdict] >= ORDER[before.verdict]


@few
@given(clear_cases(), st.sampled_from([0.0, 0.02, 0.3]), st.sampled_from([0.0, 0.003, 0.04]), betters, st.booleans())
def test_symmetric_the_reciprocal_swaps_regressed_and_improved(
    case: tuple[list[float], list[float]], limit: float, noise: float, better: Better, last: bool
) -> None:
    stored, current = case
    there = judge(stored, current, last=last, limit=Limit(limit), noise=Noise(noise), better=better)
    back = judge(
        [1 / x for x in stored],
        [1 / x for x in current],
        last=last,
        limit=Limit(limit),
        noise=Noise(noise),
        better=better,
    )
    # Exactly on an edge the rounding of 1 / x may tip it.
    assume(not on_an_edge(there))
    assert back.verdict is OPPOSITE.get(there.verdict, there.verdict)


def on_an_edge(verdict: MetricVerdict) -> bool:
    assert verdict.change is not None
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.limit is not None
    edges = [verdict.low, verdict.high, abs(verdict.change) - verdict.limit]
    if verdict.relative:
        edges.append(abs(math.log1p(verdict.change)) - math.log1p(verdict.limit))
    return any(0 < abs(edge) < 1e-9 for edge in edges)


@few
@given(
    st.one_of(
        st.tuples(baselines, currents),
        clear_cases(),
        st.tuples(st.lists(signed, min_size=1), st.lists(signed, min_size=1, max_size=12)),
    ),
    st.sampled_from([1e9, 1e-9, 3.0, 2.0**-20]),
    limits,
    noises,
    betters,
    st.booleans(),
)
def test_invariant_another_unit_gives_the_same_verdict(
    case: tuple[list[float], list[float]], unit: float, limit: Limit, noise: Noise, better: Better, last: bool
) -> None:
    stored, current = case
    one = judge(stored, current, last=last, limit=limit, noise=noise, better=better)
    assume(not on_an_edge(one))
    other = judge(
        [unit * x for x in stored],
        [unit * x for x in current],
        last=last,
        limit=Limit(limit.relative, unit * limit.absolute),
        noise=Noise(noise.relative, unit * noise.absolute),
        better=better,
    )
    assert other.verdict is one.verdict
    assert one.change is not None
    factor = 1 if one.relative else unit
    assert other.change == pytest.approx(factor * one.change, rel=1e-6, abs=1e-9 * factor)


@few
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), limits, noises, betters, st.booleans())
def test_identical_data_is_never_regressed(
    values: list[float], limit: Limit, noise: Noise, better: Better, last: bool
) -> None:
    verdict = judge(values, values, last=last, limit=limit, noise=noise, better=better)
    assert verdict.verdict not in (Verdict.REGRESSED, Verdict.IMPROVED)


@few
@given(
    st.one_of(st.tuples(baselines, currents), st.tuples(st.lists(signed, min_size=1), st.lists(signed, min_size=1))),
    limits,
    noises,
    betters,
    st.booleans(),
)
def test_a_change_inside_the_limit_is_never_regressed(
    case: tuple[list[float], list[float]], limit: Limit, noise: Noise, better: Better, last: bool
) -> None:
    verdict = judge(*case, last=last, limit=limit, noise=noise, better=better)
    assert verdict.change is not None
    assert verdict.limit is not None
    worse = verdict.change if better == "lower" else -verdict.change
    assert not (worse <= verdict.limit and verdict.verdict is Verdict.REGRESSED)


def test_the_rule_reaches_every_word() -> None:
    steady = [1.0, 1.001, 0.999, 1.002, 0.998]
    assert judge(steady, [1.3 * x for x in steady] * 2).verdict is Verdict.REGRESSED
    assert judge(steady, [0.7 * x for x in steady] * 2).verdict is Verdict.IMPROVED
    assert judge(steady, steady * 2).verdict is Verdict.UNCHANGED
    assert judge(steady, [1.0, 1.6, 1.0, 1.7, 1.1, 1.8, 0.9, 1.5]).verdict is Verdict.INCONCLUSIVE


# --- the screen


def test_the_screen_passes_what_lies_inside_limit_and_noise() -> None:
    verdict = judge([1.0] * 5, [1.01], last=False)
    assert (verdict.verdict, verdict.reason) == (Verdict.UNCHANGED, "")
    assert verdict.change == pytest.approx(0.01)
    assert verdict.limit == 0.1
    assert (verdict.value, verdict.baseline) == (1.01, 1.0)


@pytest.mark.parametrize("value", [1.12, 0.88, 1.0 * 1.099])
def test_the_screen_asks_for_a_repeat_beyond_the_limit_or_beyond_the_noise(value: float) -> None:
    verdict = judge([1.0] * 5, [value], last=False)
    assert (verdict.verdict, verdict.reason) == (Verdict.INCONCLUSIVE, "undecided after 1 process")


def test_a_small_change_that_noise_does_not_explain_passes_when_it_is_clearly_inside_the_limit() -> None:
    verdict = judge([1.0] * 5, [1.05], last=False, noise=Noise(0.003))
    assert verdict.low is not None
    assert verdict.low > 0
    assert verdict.verdict is Verdict.UNCHANGED


@pytest.mark.parametrize(
    ("value", "word", "reason"),
    [
        (1.5, Verdict.REGRESSED, "beyond the limit and the noise"),
        (0.5, Verdict.IMPROVED, "beyond the limit and the noise"),
        (1.05, Verdict.UNCHANGED, ""),
        (1.12, Verdict.INCONCLUSIVE, "noise too large to tell: 1 process would show a change of 18.6 % or more"),
    ],
)
def test_a_screen_without_confirmation_judges_with_what_it_has(value: float, word: Verdict, reason: str) -> None:
    verdict = judge([1.0] * 5, [value], noise=Noise(0.02))
    assert (verdict.verdict, verdict.reason) == (word, reason)


# --- confirmation


def test_four_processes_cannot_convince_the_rank_test_unless_they_are_the_last() -> None:
    current = [1.3, 1.31, 1.29, 1.3]
    waiting = judge([1.0, 1.01, 0.99, 1.0, 1.0], current, last=False)
    assert (waiting.verdict, waiting.reason) == (Verdict.INCONCLUSIVE, "undecided after 4 processes")
    assert judge([1.0, 1.01, 0.99, 1.0, 1.0], current, last=True).verdict is Verdict.REGRESSED
    assert judge([1.0, 1.01, 0.99, 1.0, 1.0], current * 2, last=False).verdict is Verdict.REGRESSED


def test_processes_that_overlap_are_not_a_regression_however_sure_the_t_test_is() -> None:
    stored = [1.0, 1.0, 1.0, 1.0, 1.2]
    verdict = judge(stored, [1.19, 1.18, 1.19, 1.18] * 3, noise=Noise(0.001))
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.low is not None
    assert verdict.low > 0
    assert verdict.reason == "beyond the limit, but the baseline's processes and the 12 processes of now overlap"


def test_inconclusive_says_what_it_could_have_seen() -> None:
    verdict = judge([1.0, 1.2, 0.8, 1.1, 0.9], [1.0, 1.5, 0.7, 1.4, 1.2, 0.6, 1.3, 0.9], limit=Limit(0.02))
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.detectable == pytest.approx(3.1637, abs=1e-3)
    assert verdict.reason == "noise too large to tell: 8 processes would show a change of 316.4 % or more"


def test_the_detectable_change_is_never_below_the_limit() -> None:
    verdict = judge([1.0] * 5, [1.0] * 12, limit=Limit(0.1), noise=Noise())
    assert verdict.detectable == pytest.approx(0.1)


def test_an_estimate_inside_the_limit_is_not_unchanged_when_twice_the_limit_would_not_have_shown() -> None:
    noisy = [1.0, 1.1, 0.9, 1.05, 0.95]
    assert judge(noisy, [*noisy, 1.0, 1.02, 0.98], limit=Limit(0.02)).verdict is Verdict.INCONCLUSIVE
    assert judge(noisy, [*noisy, 1.0, 1.02, 0.98], limit=Limit(0.2)).verdict is Verdict.UNCHANGED


# --- figures that repeat exactly


@pytest.mark.parametrize("last", [True, False])
def test_an_exact_figure_inside_its_limit_is_unchanged(last: bool) -> None:
    verdict = judge([1000.0] * 5, [1100.0], last=last, noise=Noise(), unit="B")
    assert verdict.verdict is Verdict.UNCHANGED


def test_an_exact_figure_beyond_its_limit_is_confirmed_once() -> None:
    screen = judge([1000.0] * 5, [1101.0], last=False, noise=Noise(), unit="B")
    confirmed = judge([1000.0] * 5, [1101.0] * 4, last=False, noise=Noise(), unit="B")
    alone = judge([1000.0] * 5, [1101.0], last=True, noise=Noise(), unit="B")
    assert screen.verdict is Verdict.INCONCLUSIVE
    assert confirmed.verdict is alone.verdict is Verdict.REGRESSED
    assert confirmed.reason == "beyond the limit, and the figure repeats exactly"
    assert (confirmed.change, confirmed.low, confirmed.high) == (pytest.approx(0.101),) * 3


def test_a_single_byte_more_than_a_limit_of_0_is_regressed() -> None:
    assert judge([4096.0] * 5, [4097.0] * 4, limit=Limit(), noise=Noise(), unit="B").verdict is Verdict.REGRESSED
    assert judge([4096.0] * 5, [4095.0] * 4, limit=Limit(), noise=Noise(), unit="B").verdict is Verdict.IMPROVED
    assert judge([4096.0] * 5, [4096.0] * 4, limit=Limit(), noise=Noise(), unit="B").verdict is Verdict.UNCHANGED


def test_a_change_of_exactly_the_limit_is_inside_whatever_the_logarithm_rounds_to() -> None:
    words = {judge([float(b)] * 5, [b * 1.1] * 4, noise=Noise()).verdict for b in range(1, 200)}
    assert words == {Verdict.UNCHANGED}


def test_the_absolute_floor_of_a_limit_counts() -> None:
    verdict = judge([1000.0] * 5, [1400.0] * 4, limit=Limit(0.1, 512), noise=Noise(), unit="B")
    assert (verdict.verdict, verdict.limit) == (Verdict.UNCHANGED, 0.512)


# --- scales and directions


def test_a_figure_of_0_is_compared_by_differences() -> None:
    verdict = judge([0.0] * 5, [3.0] * 4, limit=Limit(0.1, 2.0), noise=Noise(), unit="1")
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.relative is False
    assert (verdict.change, verdict.limit, verdict.detectable) == (3.0, 2.0, pytest.approx(2.0))


def test_all_zeros_are_unchanged() -> None:
    assert judge([0.0] * 5, [0.0] * 4, limit=Limit(), noise=Noise()).verdict is Verdict.UNCHANGED


def test_differences_say_what_they_could_have_seen_in_the_unit() -> None:
    verdict = judge([0.0, 1e-3, 2e-3], [0.0, 3e-3, 1e-3, 4e-3], limit=Limit(0, 1e-4), noise=Noise())
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.reason == "noise too large to tell: 4 processes would show a change of 25.2 ms or more"


def test_differences_are_judged_in_any_unit() -> None:
    verdict = judge([0.0] * 5, [1e-15] * 4, limit=Limit(0.1, 5e-16), noise=Noise())
    assert verdict.verdict is Verdict.REGRESSED


def test_the_absolute_floor_of_the_noise_counts() -> None:
    quiet = judge([10.0] * 5, [10.97], limit=Limit(0.1), noise=Noise(0.003, 0.0), last=False)
    noisy = judge([10.0] * 5, [10.97], limit=Limit(0.1), noise=Noise(0.003, 0.5), last=False)
    assert (quiet.verdict, noisy.verdict) == (Verdict.INCONCLUSIVE, Verdict.UNCHANGED)


def test_less_throughput_is_worse_and_its_limit_counts_downwards() -> None:
    inside = judge([100.0] * 5, [90.5] * 4, better="higher", noise=Noise(), unit="tokens/s")
    beyond = judge([100.0] * 5, [89.5] * 4, better="higher", noise=Noise(), unit="tokens/s")
    more = judge([100.0] * 5, [130.0] * 4, better="higher", noise=Noise(), unit="tokens/s")
    assert (inside.verdict, beyond.verdict, more.verdict) == (Verdict.UNCHANGED, Verdict.REGRESSED, Verdict.IMPROVED)
    assert (beyond.change, beyond.limit, beyond.detectable) == pytest.approx((-0.105, 0.1, 0.1))
    spread = judge([100.0] * 5, [95.0], better="higher", noise=Noise(0.01), unit="tokens/s")
    assert spread.low is not None
    assert spread.high is not None
    assert spread.low < -0.05 < spread.high


def test_a_throughput_cannot_fall_beyond_a_limit_of_100_percent() -> None:
    verdict = judge([100.0] * 5, [0.001] * 4, limit=Limit(1.0), better="higher", noise=Noise())
    assert (verdict.verdict, verdict.detectable) == (Verdict.UNCHANGED, 1.0)


def test_limit_and_noise_are_those_of_the_last_process() -> None:
    loose = Metric("time", "s", 1.3, limit=Limit(0.5))
    strict = Metric("time", "s", 1.3, limit=Limit(0.1))
    stored = StoredMetric("time", "s", "lower", (1.0,) * 5)
    assert decide(stored, [strict, strict, loose], last=True).verdict is Verdict.UNCHANGED
    assert decide(stored, [loose, loose, strict], last=True).verdict is Verdict.REGRESSED


# --- what cannot be judged


@pytest.mark.parametrize(
    ("stored", "current", "reason"),
    [
        ([1.0], [math.nan], "measured nan, which is not a finite number"),
        ([1.0], [1.0, math.inf], "measured inf, which is not a finite number"),
        ([1.0, math.nan], [1.0], "the baseline holds nan, which is not a finite number"),
        ([], [1.0], "the baseline holds no value"),
    ],
)
def test_what_is_not_a_finite_number_is_corrupt(stored: list[float], current: list[float], reason: str) -> None:
    verdict = judge(stored, current)
    assert (verdict.verdict, verdict.reason) == (Verdict.CORRUPT, reason)


def test_nothing_measured_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"^time: nothing was measured$"):
        judge([1.0], [])


# --- one look after the other


def test_settling_keeps_the_first_word_that_stands() -> None:
    stored = StoredMetric("time", "s", "lower", (1.0, 1.01, 0.99, 1.0, 1.0))

    def settled(values: Sequence[float]) -> MetricVerdict:
        metrics = [Metric("time", "s", value, limit=Limit(0.1), noise=Noise(0.01)) for value in values]
        return settle(stored, metrics, last=True)

    # The screen passed it: what came later for another metric's sake does not count.
    assert settled([1.0, *[1.5] * 11]).verdict is Verdict.UNCHANGED
    # Regressed after 8, and the four fast ones at the end come too late.
    assert settled([*[1.5] * 8, *[1.0] * 4]).verdict is Verdict.REGRESSED
    # Suspicious, but decided after 4.
    assert settled([1.12, 1.0, 1.0, 1.0, *[1.5] * 4]).verdict is Verdict.UNCHANGED
    assert settled([1.12, 1.0, 1.0, 1.0, *[1.5] * 4]).value == 1.0
