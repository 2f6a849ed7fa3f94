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
from perfgate.verdict.fitted import Fitted, by_fit, fitted
from perfgate.verdict.rule import Look
from perfgate.verdict.speeds import Speed, common, steadiest

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
    rng: np.random.Generator,
    *,
    core: float,
    memory: float,
    noise: float,
    more: float = 0.0,
    slow: float = 0.5,
    pollution: float = 0.0,
) -> list[Row]:
    """Draw 24 processes of a case that feels both speeds, on a machine some of whose processes have a neighbour.

    Args:
        rng: of the draw.
        core: exponent with which the case feels the core's speed.
        memory: the same, of the memory.
        noise: standard deviation of the case's own logarithm.
        more: work added, as a share.
        slow: share of processes with a neighbour: the core at 1/1.5 and the memory at 1/1.3.
        pollution: by how much the case itself slows the memory loop beside it, a logarithm.
    """
    beside = rng.random(24) < slow
    cores = np.where(beside, -math.log(1.5), 0.0) + rng.normal(0, 0.01, 24)
    memories = np.where(beside, -math.log(1.3), 0.0) + rng.normal(0, 0.03, 24)
    times = math.log1p(more) - core * cores - memory * memories + rng.normal(0, noise, 24)
    # What the reference loops see of it.
    cores, memories = cores + rng.normal(0, 0.01, 24), memories + rng.normal(0, 0.02, 24) - pollution
    return list(zip(1e-3 * np.exp(times), np.exp(cores), np.exp(memories), strict=True))


def sides_of(base: list[Row], head: list[Row]) -> tuple[StoredMetric, list[Metric]]:
    values, cores, memories = map(tuple, zip(*base, strict=True))
    stored = StoredMetric("wall_time", "s", "lower", values, 0.0, {"core": cores, "memory": memories})
    return stored, [process(row).metrics[0] for row in head]


def fit_of(base: list[Row], head: list[Row]):
    stored, current = sides_of(base, head)
    speeds = common(stored, current)
    return fitted(stored.values, [metric.value for metric in current], speeds, noise=0.02, limit=0.05), speeds


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
    base, head = (on_a_machine(rng, core=0.8, memory=0.1, noise=0.002, more=more, slow=0.3) for more in (0.0, 0.2))
    fit, _ = fit_of(base, head)
    assert statistics.median(fit.head) / statistics.median(fit.base) == pytest.approx(1.2, rel=0.01)


def test_the_degrees_of_freedom_of_the_exponents_are_paid(monkeypatch):
    """Without anything expected of them the exponents take two: the scatter is that of least squares."""
    monkeypatch.setattr("perfgate.verdict.fitted.PRIOR", 1e3)
    rng = np.random.default_rng(8)
    sides = [[(1e-3 * math.exp(t), math.exp(c), math.exp(m)) for t, c, m in rng.normal(0, 0.02, (4, 3))] for _ in "ab"]
    fit, _ = fit_of(*sides)
    centred = [np.log(side) - np.log(side).mean(axis=0) for side in map(np.array, sides)]
    times, *speeds = np.concatenate(centred).T
    felt = np.stack(speeds, axis=-1)
    rest = times - felt @ np.linalg.lstsq(felt, times, rcond=None)[0]
    found = sum(np.square(np.log(side) - np.log(side).mean()).sum() for side in (fit.base, fit.head))
    assert found == pytest.approx(fit.wider**2 * (rest @ rest) * 6 / 4, rel=1e-3)


@pytest.mark.parametrize(("core", "memory"), [(0.85, 0.0), (0.5, 0.0)])
def test_the_interval_covers_what_sides_of_different_speed_hide(core, memory):
    """The steadiest mixture leaves much more scatter than the fit does: that is not what exponents are known by."""
    rng = np.random.default_rng(10)
    missed = 0
    for _ in range(100):
        sides = []
        for slower in (0.0, 0.05):
            beside = np.where(rng.random(12) < 0.5, -0.4, 0.0)
            cores = beside + rng.normal(0, 0.005, 12)
            memories = 0.75 * beside + rng.normal(0, 0.01, 12) - slower
            times = -core * cores - memory * memories + rng.normal(0, 0.004, 12)
            sides.append(list(zip(1e-3 * np.exp(times), np.exp(cores), np.exp(memories), strict=True)))
        found = decide(*sides_of(*sides), last=True, in_turn=True, alarm=0.025)
        missed += not found.low <= 0 <= found.high
    assert missed <= 10


def test_what_is_expected_of_exponents_decides_how_far_sides_of_different_speed_can_be_compared():
    """Their deviation is 0.5: sides 10 % apart in speed differ by another 5 % for all that is known."""
    rng = np.random.default_rng(9)
    base, head = (
        [(1e-3 * math.exp(value), speed, speed) for value in rng.normal(0, 0.02, 8)] for speed in (1.0, math.exp(-0.1))
    )
    fit, _ = fit_of(base, head)
    spread_of_medians = 0.02 * math.sqrt(2 * math.pi / 2 / (8 + math.pi / 2 - 1))
    # Both speeds are uncertain, and both changed; where nothing varies within the sides that counts twice.
    assert fit.wider == pytest.approx(math.sqrt(1 + 4 * (0.1 * 0.5 / spread_of_medians) ** 2), rel=0.25)


def test_noise_that_is_known_beforehand_is_as_much_wider():
    def width(speed: float) -> float:
        base = [(1e-3, 1.0, 1.0)] * 8
        found = decide(*sides_of(base, [(1e-3, speed, speed)] * 8), last=True, in_turn=True)
        return math.log1p(found.high) - math.log1p(found.low)

    fit, _ = fit_of([(1e-3, 1.0, 1.0)] * 8, [(1e-3, 0.95, 0.95)] * 8)
    assert width(0.95) == pytest.approx(fit.wider * width(1.0), rel=0.01)
    assert fit.wider > 2


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


def look(word: Verdict, estimate: float, deviation: float = 0.01) -> Look:
    words = (word is each for each in (Verdict.REGRESSED, Verdict.IMPROVED, Verdict.UNCHANGED))
    return Look(*map(np.asarray, (estimate, estimate - 0.02, estimate + 0.02, 0.06, deviation, *words)))


SLOWER, SAME, OPEN, FASTER = Verdict.REGRESSED, Verdict.UNCHANGED, Verdict.INCONCLUSIVE, Verdict.IMPROVED


@pytest.mark.parametrize(
    ("fit", "others", "moved", "ran", "verdict", "reason", "note"),
    [
        (look(SLOWER, 0.1), {}, (), 1.0, SLOWER, "", ""),
        (look(SLOWER, 0.1), {}, (), 0.9, SLOWER, "", "the machine ran at 90 % (core) and 100 % (memory) of"),
        # The code may slow the memory loop, and be slower for it.
        (look(SLOWER, 0.1), {}, ("memory",), 1.0, SLOWER, "", ""),
        (look(SAME, 0.01), {}, ("memory",), 1.0, OPEN, "another memory speed in nearly every process", ""),
        (look(FASTER, -0.1), {}, ("memory",), 1.0, OPEN, "which the code itself may have caused", ""),
        # A view that is as steady as the fit contradicts it, one that scatters twice as much does not.
        (
            look(SAME, 0.01),
            {"core": look(OPEN, 0.09)},
            (),
            1.0,
            OPEN,
            "is +1.0 %, but +9.4 % in cycles of the core",
            "",
        ),
        (look(SAME, 0.01), {"core": look(OPEN, 0.09, 0.021)}, (), 1.0, SAME, "", ""),
        (look(SLOWER, 0.1), {"seconds": look(SAME, 0.02)}, (), 1.0, OPEN, "is +10.5 %, but +2.0 % in seconds", ""),
        # However sure the views are of it.
        (look(OPEN, 0.02), {"core": look(SLOWER, 0.1), "memory": look(SLOWER, 0.1)}, (), 1.0, OPEN, "", ""),
        (look(OPEN, 0.02), {"seconds": look(SLOWER, 0.1)}, (), 0.9, Verdict.THROTTLED, "slower in seconds, but", ""),
        # Not where the fit sees it, too.
        (look(OPEN, 0.09), {"seconds": look(SLOWER, 0.1)}, (), 0.9, OPEN, "", "the machine ran at 90 %"),
    ],
)
def test_what_the_fit_says_stands_unless_it_is_contradicted(fit, others, moved, ran, verdict, reason, note):
    deaf = look(OPEN, 0.0, 1.0)
    seconds, core, memory = (others.get(name, deaf) for name in ("seconds", "core", "memory"))
    speeds = [Speed("core", 1.0, ran, (), ()), Speed("memory", 1.0, 1.0, (), ())]
    found = by_fit(
        seconds,
        [core, memory],
        fit,
        Fitted((), (), 1.0, moved),
        speeds,
        0.05,
        lambda figure: f"{100 * math.expm1(figure):+.1f} %",
        last=True,
    )
    assert found.verdict is verdict
    assert reason in found.reason
    assert note in found.note
    assert (bool(found.reason), bool(found.note)) == (bool(reason), bool(note))


def test_a_view_is_as_steady_as_the_case_however_far_apart_the_sides_are():
    """Where they are, the difference is uncertain: no reason to hear what follows nothing."""
    seconds, core, memory = look(OPEN, 0.0, 1.0), look(OPEN, -0.1, 0.03), look(OPEN, 0.0, 1.0)
    speeds = [Speed("core", 1.0, 1.0, (), ()), Speed("memory", 1.0, 1.0, (), ())]
    about = Fitted((), (), 4.0)
    found = by_fit(seconds, [core, memory], look(SLOWER, 0.1, 0.04), about, speeds, 0.05, str, last=True)
    assert found.verdict is Verdict.REGRESSED


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


def test_three_pairs_are_fitted():
    assert fit_of([(1.0, 1.0, 1.0)] * 3, [(1.0, 1.0, 1.0)] * 3)[0] is not None


def test_where_nothing_scatters_nothing_is_fitted_to_speeds():
    """Otherwise a case on a slower machine would have become faster, and exactly so."""
    stored, current = sides_of([(1e-3, 1.0, 1.0)] * 4, [(1e-3, 0.8, 0.8)] * 4)
    speeds = common(stored, current)
    assert fitted(stored.values, [each.value for each in current], speeds, noise=0.0, limit=0.05) is None


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


def outcomes(seed: int, runs: int, base: dict[str, float], head: dict[str, float]) -> Counter[Verdict]:
    """Play runs on a machine of which three processes in ten have a neighbour, unless a side says otherwise."""
    rng = np.random.default_rng(seed)
    usual = {"noise": 0.012, "slow": 0.3}
    return Counter(as_run(on_a_machine(rng, **usual | base), on_a_machine(rng, **usual | head))[0] for _ in range(runs))


def test_ten_percent_is_found_where_the_head_also_fills_the_caches():
    felt = {"core": 0.85, "memory": 0.0}
    for slow in (0.0, 0.3):
        found = outcomes(10, 60, felt | {"slow": slow}, felt | {"slow": slow, "more": 0.1, "pollution": 0.05})
        assert found[Verdict.REGRESSED] >= 58, (slow, found)
        assert found[Verdict.UNCHANGED] == 0


def test_on_a_quiet_machine_what_waits_for_memory_and_slows_it_is_not_called_unchanged():
    """It cannot be told from a machine whose memory was slower whenever the head ran."""
    felt = {"core": 0.0, "memory": 0.9, "slow": 0.0}
    found = outcomes(11, 60, felt, felt | {"more": 0.1, "pollution": 0.1})
    assert found[Verdict.UNCHANGED] <= 3, found


def test_unchanged_code_is_not_slower_where_the_head_alone_has_neighbours():
    for core in (0.6, 1.1):
        felt = {"core": core, "memory": 0.0}
        found = outcomes(12, 60, felt | {"slow": 0.0}, felt | {"slow": 1.0})
        assert found[Verdict.REGRESSED] == found[Verdict.IMPROVED] == 0, (core, found)


def windows(rows: int, length: int) -> range:
    return range(0, rows - length + 1, 2)


def test_a_tenth_more_rounds_of_a_real_loop_are_found_wherever_a_run_begins():
    """In cycles of the steadiest mixture some of these runs ended unchanged: head or base met more slow processes."""
    found = Counter(
        as_run(run["base"][start : start + 24], run["head"][start : start + 24])
        for run in LOOP
        for start in windows(len(run["base"]), 24)
    )
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
    assert {verdict for verdict, _ in found} == {Verdict.UNCHANGED}
