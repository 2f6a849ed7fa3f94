"""How often is the gate wrong? Runs the real sequential rule (screen, 4, 8, 12) over many suites of 200 cases.

The seed is fixed. ``PERFGATE_SUITES=2000 pytest -s tests/test_verdict_simulation.py`` repeats the larger simulation
that the docstring of ``perfgate.verdict.decide`` quotes, and prints its rates.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from perfgate.model import Limit, Metric, Noise, StoredMetric, Verdict
from perfgate.verdict.decide import settle
from perfgate.verdict.rule import TOTALS, look

SUITES = int(os.environ.get("PERFGATE_SUITES", "400"))
CASES = 200
RECORDED = 5

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def gauss(sigma: float) -> Draw:
    return lambda rng, shape: rng.normal(0, sigma, shape)


def heavy(sigma: float) -> Draw:
    """Student's t with 3 degrees of freedom: its standard deviation is 1.7 sigma, and outliers are common."""
    return lambda rng, shape: rng.standard_t(3, shape) * sigma


def modes(sigma: float, share: float = 0.1, gap: float = 0.05) -> Draw:
    """Some processes are slower than the others by ``gap``."""
    return lambda rng, shape: rng.normal(0, sigma, shape) + np.log1p(gap) * (rng.random(shape) < share)


NOISES = {
    "gauss 0.3 %": (gauss(0.003), 0.003),
    "gauss 0.66 %": (gauss(0.0066), 0.0066),
    "gauss 2 %": (gauss(0.02), 0.02),
    "gauss 4 %": (gauss(0.04), 0.04),
    "t3 0.3 %": (heavy(0.003), 0.003),
    "t3 2 %": (heavy(0.02), 0.02),
    "t3 4 %": (heavy(0.04), 0.04),
    "two modes 0.3 %": (modes(0.003), 0.003),
    "two modes 2 %": (modes(0.02), 0.02),
}
#: By how much the prior is wrong: right, three times too small, three times too large, and none at all.
PRIORS = {"right": 1.0, "a third": 1 / 3, "triple": 3.0, "none": 0.0}


@dataclass(frozen=True)
class Rates:
    """Shares: of the suites with any false alarm, of the cases with each word, of the cases that were repeated."""

    alarms: float
    regressed: float
    inconclusive: float
    repeated: float
    processes: float


def simulate(
    draw: Draw,
    limit: float,
    prior: float,
    *,
    suites: int,
    change: float = 0.0,
    totals: tuple[int, ...] = TOTALS,
    seed: int = 1,
) -> Rates:
    """Judge every case as the gate does: on its screen, then on all processes of the same totals."""
    rng = np.random.default_rng(seed)
    count = suites * CASES
    baseline = draw(rng, (count, RECORDED))
    current = draw(rng, (count, 1)) + np.log1p(change)
    regressed = np.zeros(count, dtype=bool)
    open_ = np.arange(count)
    repeated, processes = 0, count
    for total in (1, *totals) if totals != (1,) else (1,):
        extra = total - current.shape[1]
        if extra:
            repeated = repeated or len(open_)
            processes += extra * len(open_)
            current = np.hstack([current, draw(rng, (len(open_), extra)) + np.log1p(change)])
        seen = look(baseline, current, np.log1p(limit), prior, last=total == totals[-1])
        regressed[open_[seen.regressed]] = True
        undecided = ~(seen.regressed | seen.improved | seen.unchanged)
        open_, baseline, current = open_[undecided], baseline[undecided], current[undecided]
    return Rates(
        alarms=float(regressed.reshape(suites, CASES).any(axis=1).mean()),
        regressed=float(regressed.mean()),
        inconclusive=len(open_) / count,
        repeated=repeated / count,
        processes=processes / count,
    )


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("limit", [0.02, 0.10])
@pytest.mark.parametrize("noise", NOISES)
def test_unchanged_suites_raise_a_false_alarm_in_at_most_2_percent(noise: str, limit: float, prior: str) -> None:
    draw, sigma = NOISES[noise]
    rates = simulate(draw, limit, sigma * PRIORS[prior], suites=SUITES)
    print(f"{noise}, limit {limit:.0%}, prior {prior}: {rates}")
    assert rates.alarms <= 0.02
    if noise.startswith("gauss") and sigma <= limit / 3:
        assert rates.inconclusive <= 0.02


@pytest.mark.parametrize("prior", ["right", "a third", "none"])
@pytest.mark.parametrize(
    ("sigma", "limit", "change", "least"), [(0.003, 0.02, 0.03, 0.95), (0.04, 0.10, 0.30, 0.99)], ids=["3 %", "30 %"]
)
def test_a_real_slow_down_is_found(sigma: float, limit: float, change: float, least: float, prior: str) -> None:
    rates = simulate(gauss(sigma), limit, sigma * PRIORS[prior], suites=30, change=change)
    print(f"{change:.0%} slower, gauss {sigma:.1%}, limit {limit:.0%}, prior {prior}: {rates}")
    assert rates.regressed >= least


def test_waiting_for_the_rank_test_is_what_keeps_two_modes_from_raising_alarms() -> None:
    # Judged after 4 processes for good, complete separation (p = 1/126) has to do, and chance attains it.
    hasty = simulate(modes(0.003, share=0.3), 0.02, 0.003, suites=SUITES, totals=(4,))
    patient = simulate(modes(0.003, share=0.3), 0.02, 0.003, suites=SUITES)
    print(f"two modes, 30 % slow: after 4 {hasty}, after 12 {patient}")
    assert hasty.alarms > 0.1
    assert patient.alarms <= 0.02


def test_noise_wider_than_the_limit_is_called_inconclusive_not_unchanged() -> None:
    rates = simulate(gauss(0.08), 0.02, 0.08, suites=20)
    # What the screen passed is the rest: the shift was inside the limit and inside the noise.
    assert rates.inconclusive == pytest.approx(rates.repeated, abs=0.005)
    assert rates.inconclusive > 0.7


def test_a_slow_down_of_the_detectable_size_is_found_as_often_as_promised() -> None:
    sigma, limit = 0.02, 0.02
    rng = np.random.default_rng(2)
    before, after = rng.normal(0, sigma, (20_000, RECORDED)), rng.normal(0, sigma, (20_000, 12))
    promised = look(before, after, np.log1p(limit), sigma, last=True).detectable
    shifted = look(before, after + np.median(promised), np.log1p(limit), sigma, last=True)
    assert 0.85 <= float(shifted.regressed.mean()) <= 0.97


def cpu_case(rng: random.Random, slower: float) -> tuple[StoredMetric, list[Metric]]:
    """A case on a core whose speed drifts between processes, by up to 2x for code that computes, 1.4x for memory."""
    mix = rng.random()

    def process(slower: float) -> Metric:
        drift = rng.random()
        core, memory = 2**-drift, 1.4**-drift
        seconds = 1e-3 * slower * rng.gauss(1, 0.02) / (core**mix * memory ** (1 - mix))
        speeds = {"core": core * rng.gauss(1, 0.02), "memory": memory * rng.gauss(1, 0.02)}
        return Metric("time", "s", seconds, limit=Limit(0.1), noise=Noise(0.036), speeds=speeds)

    before = [process(1.0) for _ in range(RECORDED)]
    speeds = {name: tuple(each.speeds[name] for each in before) for name in ("core", "memory")}
    stored = StoredMetric("time", "s", "lower", tuple(each.value for each in before), speeds=speeds)
    return stored, [process(slower) for _ in range(12)]


def test_a_drifting_cpu_raises_no_false_alarm_and_a_doubled_time_is_still_found() -> None:
    rng = random.Random(3)
    words = [settle(*cpu_case(rng, 1.0), last=True).verdict for _ in range(400)]
    print({word.value: words.count(word) for word in Verdict if word in words})
    assert Verdict.REGRESSED not in words
    words = [settle(*cpu_case(rng, 2.0), last=True).verdict for _ in range(100)]
    print({word.value: words.count(word) for word in Verdict if word in words})
    assert words.count(Verdict.REGRESSED) >= 90


def flickering_cpu_case(rng: random.Random, slower: float) -> tuple[StoredMetric, list[Metric]]:
    """A case on cores that run at full speed, but for one process in five that shares one with a neighbour."""
    mix = rng.random()

    def process(slower: float) -> Metric:
        shared = rng.random() if rng.random() < 0.2 else 0.0
        core, memory = 2**-shared, 1.25**-shared
        seconds = 1e-3 * slower * rng.gauss(1, 0.02) / (core**mix * memory ** (1 - mix))
        speeds = {"core": core * rng.gauss(1, 0.01), "memory": memory * rng.gauss(1, 0.01)}
        return Metric("time", "s", seconds, limit=Limit(0.1), noise=Noise(0.05), speeds=speeds)

    before = [process(1.0) for _ in range(RECORDED)]
    speeds = {name: tuple(each.speeds[name] for each in before) for name in ("core", "memory")}
    stored = StoredMetric("time", "s", "lower", tuple(each.value for each in before), speeds=speeds)
    return stored, [process(slower) for _ in range(12)]


def test_neighbours_of_single_processes_do_not_hide_a_slow_down_by_15_percent_nor_raise_an_alarm() -> None:
    rng = random.Random(4)
    words = [settle(*flickering_cpu_case(rng, 1.0), last=True).verdict for _ in range(400)]
    print({word.value: words.count(word) for word in Verdict if word in words})
    assert Verdict.REGRESSED not in words
    assert words.count(Verdict.UNCHANGED) >= 392
    words = [settle(*flickering_cpu_case(rng, 1.15), last=True).verdict for _ in range(200)]
    print({word.value: words.count(word) for word in Verdict if word in words})
    # Judged by the two views alone it would be three of four.
    assert words.count(Verdict.REGRESSED) >= 174
