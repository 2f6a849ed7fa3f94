"""Base and head at one speed of the machine, each speed as strongly as the case feels it."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from perfgate.ab import judge
from perfgate.model import Limit, Measurement, Metric, Noise, StoredMetric, Verdict
from perfgate.verdict.decide import decide
from perfgate.verdict.fitted import fitted
from perfgate.verdict.speeds import common, steadiest

STAGES = judge.stages(12)
#: Processes of a Python loop and of the same with a tenth more rounds, one after the other.
LOOP = json.loads((Path(__file__).parent / "twins" / "loop_in_pairs.json").read_text(encoding="utf-8"))["runs"]

Row = tuple[float, float, float]


def process(row: Row) -> Measurement:
    value, core, memory = row
    speeds = {"core": core, "memory": memory}
    time = Metric("wall_time", "s", value, limit=Limit(0.05), noise=Noise(0.02), speeds=speeds)
    return Measurement("t.py::test_a", "cpu", metrics=(time,), method={"clock": "wall"})


def as_run(base: list[Row], head: list[Row]) -> tuple[Verdict, int]:
    """Give the verdict of a run and the pairs that it took, stage by stage as the gate asks."""
    sides = [list(map(process, side)) for side in (base, head)]
    for pairs in STAGES:
        usual = pairs >= 12
        seen = [side[:pairs] for side in sides]
        result = judge.compare(*seen, commit="0123abc", level=judge.alarm(1), last=usual, looks=STAGES)
        if not (judge.looks_slower(result) if usual else result.verdict is Verdict.INCONCLUSIVE):
            break
    return result.verdict, pairs


def on_a_machine(
    rng: np.random.Generator, *, core: float, memory: float, noise: float, more: float = 0.0, slow: float = 0.5
) -> list[Row]:
    """Draw 24 processes of a case that feels both speeds, on a machine some of whose processes have a neighbour.

    Args:
        rng: of the draw.
        core: exponent with which the case feels the core's speed.
        memory: the same, of the memory.
        noise: standard deviation of the case's own logarithm.
        more: work added, as a share.
        slow: share of processes with a neighbour: the core at 1/1.5 and the memory at 1/1.3.
    """
    beside = rng.random(24) < slow
    cores = np.where(beside, -math.log(1.5), 0.0) + rng.normal(0, 0.01, 24)
    memories = np.where(beside, -math.log(1.3), 0.0) + rng.normal(0, 0.03, 24)
    times = math.log1p(more) - core * cores - memory * memories + rng.normal(0, noise, 24)
    # What the reference loops see of it.
    cores, memories = cores + rng.normal(0, 0.01, 24), memories + rng.normal(0, 0.02, 24)
    return list(zip(1e-3 * np.exp(times), np.exp(cores), np.exp(memories), strict=True))


def sides_of(base: list[Row], head: list[Row]) -> tuple[StoredMetric, list[Metric]]:
    values, cores, memories = map(tuple, zip(*base, strict=True))
    stored = StoredMetric("wall_time", "s", "lower", values, 0.0, {"core": cores, "memory": memories})
    return stored, [process(row).metrics[0] for row in head]


def fit_of(base: list[Row], head: list[Row]):
    stored, current = sides_of(base, head)
    speeds = common(stored, current)
    return fitted(stored.values, [metric.value for metric in current], speeds), speeds


def spread(side: tuple[float, ...]) -> float:
    return statistics.stdev(map(math.log, side))


def test_what_feels_a_speed_less_than_the_reference_loop_is_steadier_in_the_fit_than_in_any_mixture():
    rng = np.random.default_rng(1)
    base, head = (on_a_machine(rng, core=0.7, memory=0.0, noise=0.005) for _ in range(2))
    fit, speeds = fit_of(base, head)
    assert spread(fit.base) < 0.6 * spread(steadiest(speeds).values)


def test_a_steady_machine_leaves_the_steadiest_mixture():
    rng = np.random.default_rng(2)
    base, head = (
        [(1e-3 * time, 1.0 + 1e-5 * speed, 1.0) for time, speed in rng.normal(1, 0.02, (12, 2))] for _ in range(2)
    )
    fit, speeds = fit_of(base, head)
    assert fit.wider == pytest.approx(1.0, abs=1e-3)
    assert fit.base == pytest.approx(steadiest(speeds).values, rel=1e-3)


def test_a_change_of_the_code_is_not_fitted_away():
    rng = np.random.default_rng(3)
    base = on_a_machine(rng, core=0.8, memory=0.1, noise=0.002)
    fit, _ = fit_of(base, [(1.2 * value, core, memory) for value, core, memory in base])
    assert statistics.median(fit.head) / statistics.median(fit.base) == pytest.approx(1.2, rel=1e-6)


def test_sides_on_machines_of_different_speed_say_little_where_nothing_is_known_of_the_exponents():
    rng = np.random.default_rng(4)
    base = on_a_machine(rng, core=0.8, memory=0.0, noise=0.002, slow=0.0)[:8]
    head = on_a_machine(rng, core=0.8, memory=0.0, noise=0.002, slow=1.0)[:8]
    fit, _ = fit_of(base, head)
    assert fit.wider > 3
    stored, current = sides_of(base, head)
    in_turn = decide(stored, current, last=False, in_turn=True)
    assert in_turn.verdict is Verdict.INCONCLUSIVE
    assert in_turn.low < -0.05 < 0.05 < in_turn.high


def test_a_throughput_is_fitted_as_the_time_that_it_comes_from():
    rng = np.random.default_rng(5)
    base, head = (on_a_machine(rng, core=0.7, memory=0.1, noise=0.01, more=more) for more in (0.0, 0.1))
    stored, current = sides_of(base, head)
    times = decide(stored, current, last=True, in_turn=True)
    rate = StoredMetric("rate", "1/s", "higher", tuple(1 / value for value in stored.values), 0.0, stored.speeds)
    rates = [
        Metric("rate", "1/s", 1 / each.value, "higher", Limit(0.05), Noise(0.02), speeds=each.speeds)
        for each in current
    ]
    found = decide(rate, rates, last=True, in_turn=True)
    assert times.verdict is found.verdict is Verdict.REGRESSED
    assert 1 / (1 + found.change) == pytest.approx(1 + times.change, rel=1e-6)


@pytest.mark.parametrize(
    ("base", "head"),
    [
        ([(1.0, 1.0, 1.0)] * 2, [(1.0, 1.0, 1.0)] * 2),
        # A GPU's clock, a machine that tells one speed.
        ([(1.0, 1.0, math.nan)] * 4, [(1.0, 1.0, math.nan)] * 4),
    ],
)
def test_too_few_values_or_speeds_are_not_fitted(base, head):
    assert fit_of(base, head)[0] is None


def test_what_repeats_exactly_still_does():
    fit, _ = fit_of([(1e-3, 2.0, 3.0)] * 4, [(1.1e-3, 2.0, 3.0)] * 4)
    assert fit.base == pytest.approx((1e-3,) * 4)
    assert fit.head == pytest.approx((1.1e-3,) * 4)
    assert fit.wider == pytest.approx(1.0)


@pytest.mark.parametrize("exponents", [(0.85, 0.0), (0.5, 0.5), (0.3, 0.3), (0.0, 0.0), (0.0, 0.6)])
def test_ten_percent_is_found_and_nothing_invented_however_strongly_a_case_feels_the_machine(exponents):
    core, memory = exponents
    rng = np.random.default_rng(6)
    slower, same = Counter(), Counter()
    for number in range(120):
        slow = (0.0, 0.5)[number % 2]
        base, head, more = (
            on_a_machine(rng, core=core, memory=memory, noise=0.02, more=work, slow=slow) for work in (0.0, 0.0, 0.1)
        )
        same[as_run(base, head)[0]] += 1
        slower[as_run(base, more)[0]] += 1
    assert slower[Verdict.REGRESSED] >= 118
    assert same[Verdict.REGRESSED] == 0
    assert same[Verdict.UNCHANGED] >= 115


def windows(rows: int, length: int) -> range:
    return range(0, rows - length + 1, 2)


def test_a_tenth_more_rounds_of_a_real_loop_are_found_wherever_a_run_begins():
    """In cycles of the steadiest mixture some of these runs ended unchanged: head or base met more slow processes."""
    found = Counter(
        as_run(run["base"][start : start + 24], run["head"][start : start + 24])
        for run in LOOP
        for start in windows(len(run["base"]), 24)
    )
    print(found)
    assert {verdict for verdict, _ in found} == {Verdict.REGRESSED}
    assert max(pairs for _, pairs in found) <= 12


def test_a_real_loop_beside_itself_is_unchanged_wherever_a_run_begins():
    found: Counter[tuple[Verdict, int]] = Counter()
    for run in LOOP:
        for side in run.values():
            for start in windows(len(side), 48):
                rows = side[start : start + 48]
                # The side that goes first changes with each pair.
                first = [rows[2 * pair + pair % 2] for pair in range(24)]
                found[as_run(first, [rows[2 * pair + 1 - pair % 2] for pair in range(24)])] += 1
    print(found)
    assert {verdict for verdict, _ in found} == {Verdict.UNCHANGED}
