"""When a change is told to be in cycles of the machine, and how its reason says so."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.model import Limit, Metric, MetricVerdict, Noise, StoredMetric, Verdict
from perfgate.verdict import cycles
from perfgate.verdict.decide import decide

FASTER = MetricVerdict("wall_time", "s", 2.13e-3, Verdict.REGRESSED, baseline=2.21e-3, change=0.106, limit=0.1)
RAN = "the machine ran at 127 % (core) and 104 % (memory) of the speed at recording"


def seen(change: float, value: float = 1.0) -> MetricVerdict:
    return replace(FASTER, value=value, baseline=1.0, change=change)


@pytest.mark.parametrize(
    ("metric", "ran"),
    [
        (FASTER, 1.148),
        (replace(FASTER, value=1.74e-3, baseline=1.17e-3, change=0.09), 0.733),
        # More done in a second by a machine that makes more of its cycles.
        (replace(FASTER, better="higher", value=1.5, baseline=1.0, change=0.0), 1.5),
        (seen(0.02), 1.02),
        # The sign is another, or the change another by more than its third.
        (seen(0.004, value=0.997), 1.007),
        (seen(0.009, value=1.001), 1.008),
    ],
)
def test_the_speed_lies_between_the_values_and_the_change(metric: MetricVerdict, ran: float) -> None:
    assert cycles.speed(metric) == pytest.approx(ran, abs=1e-3)


@pytest.mark.parametrize(
    "metric",
    [
        seen(0.0),
        seen(0.30, value=1.30),
        seen(0.30, value=1.288),
        seen(0.001, value=1.005),
        seen(0.106, value=1.11),
        seen(math.inf),
        seen(math.nan),
        seen(-1.0),
        replace(FASTER, change=None),
        replace(FASTER, baseline=None),
        replace(FASTER, baseline=0.0, change=2.13e-3, relative=False),
        replace(FASTER, baseline=-1.0),
        replace(FASTER, value=math.nan),
    ],
)
def test_a_change_that_is_that_of_the_values_has_no_speed(metric: MetricVerdict) -> None:
    assert cycles.speed(metric) is None


positive = st.floats(1e-3, 1e3)


@settings(deadline=None)
@given(st.lists(positive, min_size=1, max_size=5), st.lists(positive, min_size=1, max_size=8), st.booleans())
def test_what_was_judged_in_seconds_is_never_told_to_be_in_cycles(
    stored: list[float], now: list[float], higher: bool
) -> None:
    # The value between two far apart is their mean, and their change is found on a logarithmic scale.
    better = "higher" if higher else "lower"
    metrics = [Metric("m", "s", value, better, Limit(0.1), Noise(0.02)) for value in now]  # type: ignore[arg-type]
    told = decide(StoredMetric("m", "s", better, tuple(stored)), metrics, last=True)  # type: ignore[arg-type]
    assert cycles.speed(told) is None


@settings(deadline=None)
@given(st.floats(0.3, 3.0).filter(lambda speed: abs(speed - 1) > 0.02), st.floats(0.5, 3.0), st.booleans())
def test_what_was_judged_in_cycles_gives_the_speed_back(speed: float, slower: float, higher: bool) -> None:
    better = "higher" if higher else "lower"
    stored = StoredMetric("m", "s", better, (1.0,) * 5, speeds={"core": (2.0,) * 5})  # type: ignore[arg-type]
    value = slower * (speed if higher else 1 / speed)
    metric = Metric("m", "s", value, better, Limit(0.1), Noise(0.02), speeds={"core": 2.0 * speed})  # type: ignore[arg-type]
    told = decide(stored, [metric] * 8, last=True)
    # On a scale on which less is better, and for a verdict that seconds do not give.
    if told.verdict is not Verdict.THROTTLED:
        assert cycles.speed(told) == pytest.approx(speed)
        assert told.value == statistics.median([value])


@pytest.mark.parametrize(
    ("ran", "text"),
    [(1.148, "about 115 %"), (0.733, "about 73 %"), (1.0101, "about 101 %"), (0.9931, "about 99.3 %")],
)
def test_a_speed_in_words(ran: float, text: str) -> None:
    assert cycles.about(ran) == text


SLOWER = "beyond the limit and the noise"
UNSURE = f"{RAN}; in its cycles the change is +10.6 % (core) and -3.1 % (memory)"


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (
            replace(FASTER, reason=f"{SLOWER}; {RAN}"),
            f"{SLOWER}; {RAN}; the change is in its cycles, process by process",
        ),
        (
            replace(FASTER, value=2.45e-3, baseline=2.21e-3, change=0.13, reason=SLOWER),
            f"{SLOWER}; the change is in cycles of the machine, which ran at about 102 % of the speed at recording",
        ),
        (
            replace(FASTER, reason=""),
            "the change is in cycles of the machine, which ran at about 115 % of the speed at recording",
        ),
        (replace(FASTER, value=2.21e-3 * 1.106, reason=f"{SLOWER}; {RAN}"), f"{SLOWER}; {RAN}"),
        (replace(FASTER, reason=UNSURE, verdict=Verdict.INCONCLUSIVE), UNSURE),
        (replace(FASTER, verdict=Verdict.UNCHANGED, change=0.0), ""),
        (
            replace(FASTER, verdict=Verdict.UNCHANGED, change=0.0, reason=RAN),
            f"{RAN}; the change is in its cycles, process by process",
        ),
    ],
)
def test_the_reason_says_what_the_change_is_in(metric: MetricVerdict, reason: str) -> None:
    assert cycles.explained(metric) == reason
