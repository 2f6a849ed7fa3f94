"""What does the speed of the host excuse? Simulated wall times of work on a GPU: figures of verdict/objecting.py."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from perfgate.model import Limit, Metric, Noise, StoredMetric, Verdict
from perfgate.verdict.decide import decide, settle

RUNS = 300


def play(
    slower: float, *, host: float = 1.0, follows: float = 1.0, looks: float, noise: float = 0.02, processes: int = 8
) -> Counter[Verdict]:
    """Count the verdicts on work that takes so much longer now, against five recorded processes, with a limit of 10 %.

    Args:
        slower: how much longer the work takes now on an equal host, as a share.
        host: speed of the host now, as a share of the speed at recording.
        follows: the power of the host's speed that the work follows: 1 for launches, 0 for what keeps the GPU busy.
        looks: deviation between processes of the host's speed as it is looked at.
        noise: deviation between processes of the work.
        processes: of now, the screening one among them.
    """
    random = np.random.default_rng(0)

    def draw(scale: float, count: int) -> list[float]:
        return np.exp(random.normal(0, scale, count)).tolist()

    verdicts: Counter[Verdict] = Counter()
    for _ in range(RUNS):
        stored = StoredMetric("wall_time", "s", "lower", tuple(draw(noise, 5)), None, {"host": tuple(draw(looks, 5))})
        times = [(1 + slower) * value / host**follows for value in draw(noise, processes)]
        speeds = [host * value for value in draw(looks, processes)]
        current = [
            Metric("wall_time", "s", time, limit=Limit(0.10), noise=Noise(0.05), speeds={"host": speed})
            for time, speed in zip(times, speeds, strict=True)
        ]
        verdicts[settle(stored, current, last=True).verdict] += 1
    return verdicts


@pytest.mark.parametrize("slower", [0.12, 0.15, 0.20])
@pytest.mark.parametrize("processes", [1, 4, 8, 12])
def test_equal_hosts_excuse_hardly_any_slow_down(slower: float, processes: int) -> None:
    """As steady as looks at the host are where other processes run."""
    assert play(slower, looks=0.02, processes=processes)[Verdict.THROTTLED] <= 0.02 * RUNS


def test_looks_that_scatter_excuse_some() -> None:
    found = play(0.15, looks=0.05)
    assert 0.02 * RUNS < found[Verdict.THROTTLED] < 0.08 * RUNS
    assert found[Verdict.REGRESSED] > 0.8 * RUNS


@pytest.mark.parametrize("host", [0.9, 0.8, 1.25])
def test_unchanged_launches_on_another_host_raise_no_alarm(host: float) -> None:
    assert play(0.0, host=host, looks=0.02)[Verdict.REGRESSED] == 0


def test_launches_that_take_longer_are_found_on_a_slower_host() -> None:
    assert play(0.20, host=0.8, looks=0.02)[Verdict.REGRESSED] > 0.95 * RUNS


def test_the_price_is_what_keeps_the_gpu_busy_on_a_slower_host() -> None:
    assert play(0.20, host=0.8, follows=0.0, looks=0.02)[Verdict.THROTTLED] > 0.95 * RUNS
    assert play(0.30, host=0.9, follows=0.0, looks=0.02, processes=12)[Verdict.REGRESSED] > 0.9 * RUNS


@pytest.mark.parametrize(("share", "expected"), [(1.2, Verdict.REGRESSED), (0.8, Verdict.IMPROVED)])
def test_a_host_that_one_side_alone_finds_slower_excuses_nothing_in_turn(share: float, expected: Verdict) -> None:
    """Both met the same one: a thread that the code leaves behind slows down the loop as it does the launches."""
    spread = [1 + 0.001 * number for number in range(8)]
    stored = StoredMetric("wall_time", "s", "lower", tuple(spread), None, {"host": (1.0,) * 8})
    current = [
        Metric("wall_time", "s", share * value, limit=Limit(0.10), noise=Noise(0.05), speeds={"host": 1 / share})
        for value in spread
    ]
    excused = Verdict.THROTTLED if expected is Verdict.REGRESSED else Verdict.UNCHANGED
    assert decide(stored, current, last=True).verdict is excused
    assert decide(stored, current, last=True, in_turn=True).verdict is expected
