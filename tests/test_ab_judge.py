"""How often is a comparison with a commit wrong? The real rule, pair by pair, over many simulated runs."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from perfgate.ab import judge
from perfgate.model import Limit, Measurement, Metric, Noise, Outcome, StoredMetric, Verdict
from perfgate.plan import Plan
from perfgate.verdict.rule import ALARM, look

METHOD = {"version": "1", "clock": "wall"}


STAGES = judge.stages(12)


def simulate(sigma: float, change: float, *, cases: int = 1, runs: int = 4000, seed: int = 1) -> dict[str, float]:
    """Play cases with Gaussian noise."""
    rng = np.random.default_rng(seed)
    base, head = rng.normal(0, sigma, (runs, 24)), rng.normal(0, sigma, (runs, 24)) + np.log1p(change)
    return play(base, head, cases)


def play(base: np.ndarray, head: np.ndarray, cases: int) -> dict[str, float]:
    """Give the shares of regressed and unchanged, and the mean number of pairs; vectorised as the rule is."""
    runs = len(base)
    limit, prior = np.log1p(judge.WALL_LIMIT.relative), judge.WALL_NOISE.relative
    open_, shares, pairs = np.arange(runs), Counter(), 0
    for total in STAGES[1:]:
        levels = {"alarm": judge.alarm(cases), "rank": judge.RANK_OF_PAIRS}
        seen = look(base[open_, :total], head[open_, :total], limit, prior, last=total >= 12, **levels)
        shares["regressed"] += int(seen.regressed.sum())
        shares["unchanged"] += int(seen.unchanged.sum())
        done = seen.regressed | seen.improved | seen.unchanged | (total == STAGES[-1])
        if total >= 12:
            done |= seen.estimate <= limit
        pairs += total * int(done.sum())
        open_ = open_[~done]
    return {"pairs": pairs / runs, **{word: number / runs for word, number in shares.items()}}


def test_the_simulation_plays_what_a_run_does():
    """Case by case, by the functions that a run calls."""
    rng = np.random.default_rng(7)
    base, head = rng.normal(0, 0.06, (60, 24)), rng.normal(0, 0.06, (60, 24)) + np.log1p(0.10)
    words, pairs = Counter(), 0
    for before, now in zip(np.exp(base), np.exp(head), strict=True):
        for total in STAGES[1:]:
            sides = ([taken(1e-3 * value) for value in side[:total]] for side in (before, now))
            result = judge.compare(*sides, commit="0123abc", level=judge.alarm(1), last=total >= 12, looks=STAGES)
            if not (judge.looks_slower(result) if total >= 12 else result.verdict is Verdict.INCONCLUSIVE):
                break
        words[result.verdict.value] += 1
        pairs += total
    played = play(base, head, 1)
    assert words["regressed"] == round(60 * played["regressed"]) > 40
    assert words["unchanged"] == round(60 * played.get("unchanged", 0))
    assert pairs == round(60 * played["pairs"]) > 60 * 8


def test_a_word_of_the_18th_pair_stands_at_the_24th():
    rng = np.random.default_rng(4)
    before, now = np.exp(rng.normal(0, 0.05, 18)), 1.12 * np.exp(rng.normal(0, 0.05, 18))

    def settle(pairs: int, *more: float) -> Verdict:
        stored = StoredMetric("wall_time", "s", "lower", (*before, *[1.0] * 6)[:pairs], 0.0)
        metrics = [
            Metric("wall_time", "s", value, limit=Limit(0.05), noise=Noise(0.02)) for value in (*now, *more)[:pairs]
        ]
        return judge.settle(stored, metrics, last=pairs >= 12, alarm=judge.alarm(1), looks=STAGES).verdict

    assert settle(12) is Verdict.INCONCLUSIVE
    assert settle(18) is Verdict.REGRESSED
    # As fast as can be: without the look at 18 that would be no slow-down any more.
    assert settle(24, *[0.5] * 6) is Verdict.REGRESSED


@pytest.mark.parametrize("seed", [1, 2])
def test_two_modes_raise_an_alarm_in_few_runs(seed):
    """Half of the processes take 30 % longer, as where two of them share a core: 10 cases a run."""
    rng = np.random.default_rng(seed)
    slow = [np.where(rng.random((10_000, 24)) < 0.5, np.log(1.3), 0.0) for _ in range(2)]
    base, head = (side + rng.normal(0, 0.02, side.shape) for side in slow)
    assert 10 * play(base, head, 10).get("regressed", 0.0) <= 0.025


@pytest.mark.parametrize(("sigma", "least"), [(0.01, 1.0), (0.02, 0.999), (0.03, 0.99), (0.04, 0.98), (0.05, 0.95)])
def test_ten_percent_more_time_is_found(sigma, least):
    rates = simulate(sigma, 0.10)
    print(sigma, rates)
    assert rates["regressed"] >= least
    assert rates.get("unchanged", 0) <= 0.021


@pytest.mark.parametrize("cases", [1, 10, 200])
@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.03, 0.05])
def test_unchanged_code_raises_an_alarm_in_at_most_two_percent_of_runs(sigma, cases):
    # A run of so many cases, each of them alike: the share that each may raise is cases times smaller.
    rates = simulate(sigma, 0.0, cases=cases, runs=20_000)
    print(sigma, cases, rates)
    assert rates.get("regressed", 0) <= 0.02 / cases
    if sigma <= 0.02:
        assert rates["unchanged"] >= 0.999


def test_a_slow_down_in_the_tail_of_t_is_found_and_none_is_invented():
    rng = np.random.default_rng(4)
    base, head = rng.standard_t(3, (20_000, 24)) * 0.02, rng.standard_t(3, (20_000, 24)) * 0.02
    assert play(base, head, 1).get("regressed", 0.0) <= 1e-3
    assert play(base, head + np.log(1.15), 1)["regressed"] >= 0.99


def test_levels_share_the_alarms_of_a_run():
    assert judge.alarm(1) == judge.LOOSEST
    assert judge.alarm(200) == pytest.approx(ALARM * 3 / 5, rel=0.15)
    assert judge.alarm(1000) < ALARM


def taken(value: float, *, memory: float = 1 << 20, outcome: Outcome = Outcome.PASSED, reason: str = "") -> Measurement:
    metrics = (
        Metric("wall_time", "s", value, limit=Limit(0.10), noise=Noise(0.05)),
        Metric("memory", "B", memory, limit=Limit(0.0, 512.0)),
    )
    passed = metrics if outcome is Outcome.PASSED else ()
    return judge.limited(
        Measurement("t.py::test_a", "cpu", outcome, reason, passed, METHOD, {"python": "3.12"}), Plan()
    )


def compare(base: list[Measurement], head: list[Measurement], *, last: bool = False):
    return judge.compare(base, head, commit="0123abc", level=judge.alarm(1), last=last)


def test_wall_time_gets_the_limit_of_one_run_unless_the_test_names_one():
    assert [metric.limit for metric in taken(1.0).metrics] == [Limit(0.05), Limit(0.0, 512.0)]
    own = judge.limited(taken(1.0), Plan(time=Limit(0.2)))
    assert own.metrics[0].limit == Limit(0.2)


def test_further_pairs_come_after_the_usual_number_alone():
    assert judge.stages(12) == (1, 4, 8, 12, 18, 24)
    assert judge.stages(1) == (1,)
    assert judge.stages(4) == (1, 4)
    assert judge.stages(20) == (1, 4, 8, 12, 20)


WIDE = [0.8e-3, 1.3e-3, 1.0e-3, 1.2e-3]


@pytest.mark.parametrize(
    ("base", "head", "expected"),
    [
        (WIDE, WIDE[::-1], False),
        (WIDE, [1.2 * value for value in WIDE], True),
        # Faster is undecided too, and no failure waits there.
        (WIDE, [0.8 * value for value in WIDE], False),
        # What is decided needs no more pairs.
        ([1e-3] * 8, [1.2e-3] * 8, False),
    ],
)
def test_only_what_is_undecided_and_slower_gets_further_pairs(base, head, expected):
    result = compare([taken(value) for value in base], [taken(value) for value in head])
    assert judge.looks_slower(result) is expected


def test_what_is_slower_on_the_clock_alone_gets_further_pairs_too():
    def on_a_machine(value: float, speed: float) -> Measurement:
        one = taken(value)
        time = dataclasses.replace(one.metrics[0], speeds={"core": speed, "memory": 1.0})
        return dataclasses.replace(one, metrics=(time, one.metrics[1]))

    base = [on_a_machine(value, 1.0) for value in (1e-3, 1.02e-3, 0.98e-3, 1.01e-3)]
    head = [on_a_machine(1.3 * value, 0.75) for value in (1e-3, 1.02e-3, 0.98e-3, 1.01e-3)]
    result = compare(base, head, last=True)
    assert result.verdict is Verdict.THROTTLED
    assert judge.looks_slower(result)


def test_one_pair_clears_no_wall_time_of_a_cpu_however_alike_it_looks():
    result = compare([taken(1e-3)], [taken(1e-3)])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == "wall_time: undecided after 1 pair"
    assert {metric.name: metric.verdict for metric in result.metrics} == {
        "wall_time": Verdict.INCONCLUSIVE,
        "memory": Verdict.UNCHANGED,
    }


def test_one_pair_clears_what_repeats_well_enough():
    def device(value: float) -> Measurement:
        metric = Metric("device_time", "s", value, limit=Limit(0.02), noise=Noise(0.002))
        return Measurement("t.py::test_a", "gpu", metrics=(metric,), method=METHOD)

    assert compare([device(1e-3)], [device(1.003e-3)]).verdict is Verdict.UNCHANGED
    assert compare([device(1e-3)], [device(1.03e-3)]).verdict is Verdict.INCONCLUSIVE


def test_a_metric_keeps_the_word_of_the_look_that_decided_it():
    base = [taken(1e-3) for _ in range(8)]
    head = [taken(1e-3) for _ in range(4)] + [taken(9e-3) for _ in range(4)]
    assert compare(base[:4], head[:4]).verdict is Verdict.UNCHANGED
    assert compare(base, head, last=True).metrics[0].verdict is Verdict.UNCHANGED


@pytest.mark.parametrize(
    ("ran", "reason"),
    [
        (
            0.90,
            "wall_time: beyond the limit and the noise; the machine ran at 90 % (core) of its speed with the base; the "
            "change is in its cycles, process by process",
        ),
        (
            0.97,
            "wall_time: beyond the limit and the noise; the change is in cycles of the machine, which ran at about "
            "97 % of its speed with the base",
        ),
        (1.0, "wall_time: beyond the limit and the noise"),
    ],
)
def test_the_reason_says_where_a_change_is_not_that_of_the_values(ran, reason):
    def on_a_machine(value: float, speed: float, place: int) -> Measurement:
        one = taken(value * (1 + 0.001 * place))
        time = dataclasses.replace(one.metrics[0], speeds={"core": speed})
        return dataclasses.replace(one, metrics=(time, one.metrics[1]))

    base = [on_a_machine(1e-3, 2.0, place) for place in range(8)]
    head = [on_a_machine(1.3e-3, 2.0 * ran, place) for place in range(8)]
    result = compare(base, head, last=True)
    assert (result.verdict, result.reason) == (Verdict.REGRESSED, reason)


def test_what_repeats_exactly_is_decided_by_one_pair_whatever_may_follow():
    stored = StoredMetric("registers", "count", "lower", (40.0,))
    now = [Metric("registers", "count", 48.0, limit=Limit(0.1), noise=Noise(0.0))]
    for pairs in (1, 4, 12):
        found = judge.settle(stored, now, last=True, alarm=1e-3, looks=judge.stages(pairs))
        assert found.verdict is Verdict.REGRESSED, pairs
        assert judge.settle(stored, now, last=False, alarm=1e-3, looks=judge.stages(pairs)).verdict is (
            Verdict.INCONCLUSIVE
        )


def test_more_memory_fails_after_four_pairs():
    assert compare([taken(1e-3)], [taken(1e-3, memory=2 << 20)]).verdict is Verdict.INCONCLUSIVE
    result = compare([taken(1e-3)] * 4, [taken(1e-3, memory=2 << 20)] * 4)
    assert (result.verdict, result.reason) == (
        Verdict.REGRESSED,
        "memory: beyond the limit, and the figure repeats exactly",
    )


@pytest.mark.parametrize(
    ("before", "now", "verdict", "reason"),
    [
        (Outcome.PASSED, Outcome.CRASHED, Verdict.OUTCOME_CHANGED, "passed -> crashed: killed"),
        (Outcome.CRASHED, Outcome.PASSED, Verdict.IMPROVED, "crashed -> passed"),
        (Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY, Verdict.UNCHANGED, "still out of memory: killed"),
        (Outcome.FAILED, Outcome.FAILED, Verdict.SKIPPED, "the test failed; its time was not judged"),
        (Outcome.PASSED, Outcome.FAILED, Verdict.SKIPPED, "the test failed; its time was not judged"),
        (Outcome.SKIPPED, Outcome.PASSED, Verdict.NEW, "the base has nothing to compare with"),
    ],
)
def test_outcomes(before, now, verdict, reason):
    why = "killed" if now is not Outcome.PASSED else ""
    result = compare([taken(1e-3, outcome=before, reason="killed")], [taken(1e-3, outcome=now, reason=why)])
    assert (result.verdict, result.reason) == (verdict, reason)


def test_a_head_that_crashes_now_and_then_is_a_changed_outcome():
    head = [taken(1e-3), taken(1e-3, outcome=Outcome.CRASHED, reason="killed"), taken(1e-3), taken(1e-3)]
    result = compare([taken(1e-3)] * 4, head)
    assert (result.verdict, result.reason) == (Verdict.OUTCOME_CHANGED, "crashed in 1 of 4 processes: killed")


def test_a_metric_that_one_side_lacks():
    more = taken(1e-3)
    less = Measurement("t.py::test_a", "cpu", metrics=more.metrics[:1], method=METHOD, environment={"python": "3.12"})
    gone = compare([more] * 4, [judge.limited(less, Plan())] * 4)
    assert (gone.verdict, gone.reason) == (Verdict.REMOVED, "memory: the base has it, and the head does not")
    new = compare([less] * 4, [more] * 4)
    assert (new.verdict, new.reason) == (Verdict.NEW, "memory: the base does not have it")


def test_reasons_count_pairs():
    wide = [0.8e-3, 1.3e-3, 1.0e-3, 1.2e-3]
    result = compare([taken(each) for each in wide], [taken(each) for each in reversed(wide)])
    assert result.reason == "wall_time: undecided after 4 pairs"
    result = compare([taken(each) for each in wide], [taken(each) for each in reversed(wide)], last=True)
    assert result.reason.startswith("wall_time: noise too large to tell: 4 pairs would show a change of ")
