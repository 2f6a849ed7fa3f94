"""Does a calibration count right? Synthetic pools with known answers, intervals, and the rules of other tools."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from perfgate.calibrate import analysis, report, rivals, splits, tables
from perfgate.calibrate.deciding import Player
from perfgate.calibrate.intervals import clopper_pearson, rate
from perfgate.calibrate.pool import Pool, PooledCase, Process, Row, Series
from perfgate.calibrate.samples import summary
from perfgate.model import Limit, Noise, Verdict

DEVICE = {"limit": Limit(0.02, 0.25e-6), "noise": Noise(0.002, 3e-8)}


def process(number: int, steps: tuple[str, ...] = (), device: str = "") -> Process:
    return Process(f"2026-01-01T00:{number:02d}:00+00:00", 50.0, "abc", device, steps)


def pool(
    *, processes: int = 20, cases: int = 3, noise: float = 0.002, time: float = 1e-4, clock: float = 0.0, seed: int = 1
) -> Pool:
    """Cases with Gaussian noise between processes, and steps of exactly 1, 5 and 10 % in every process."""
    generator = random.Random(seed)
    steps = {"": 0.0, "1%": 0.01, "5%": 0.05, "10%": 0.1}
    made = {}
    for case in range(cases):
        rows = []
        for number in range(processes):
            value = time * (1 + generator.gauss(0, noise))
            speed = 1.98e9 * (1 + generator.gauss(0, clock))
            for step, more in steps.items():
                samples = summary([value * (1 + more) * (1 + generator.gauss(0, 0.003)) for _ in range(40)])
                rows.append(Row(number, step, value * (1 + more), {"sm_clock": speed}, samples))
        memory = [
            Row(number, step, 1 << 20 if not step else 3 << 20)
            for number in range(processes)
            for step in ("", "memory 2MiB")
        ]
        made[f"test_x.py::test_{case}"] = PooledCase(
            {"clock": "device"},
            {
                "device_time": Series("device_time", "s", "lower", **DEVICE, rows=tuple(rows)),
                "memory": Series("memory", "B", "lower", Limit(0.0, 512), Noise(), tuple(memory)),
            },
        )
    return Pool("nvidia-h200", {"torch": "2.11.0"}, tuple(process(number) for number in range(processes)), made)


def test_unchanged_code_raises_no_alarm_and_large_steps_are_found() -> None:
    found = analysis.analyse(pool(cases=2), most=20)
    assert found.alarms.events == found.runs.events == found.shuffled.events == 0
    assert found.across is None
    assert found.alarms.drawn == 40
    for case in found.cases:
        assert case.power["5%"].own.share == case.power["10%"].own.share == 1.0
        assert case.power["1%"].own.share == 0.0, "the case's own limit of 2 % forbids it"
        assert case.power["1%"].half.share > 0.95
        assert case.power["memory 2MiB"].own.share == 1.0
        assert case.power["memory 2MiB"].half is None
        assert case.power["5%"].achieved == pytest.approx(0.05)
        assert case.spread == pytest.approx(0.002, rel=0.6)
        assert 0.02 < case.detectable < 0.04
        assert case.advice == ""


def test_a_case_that_drifts_raises_alarms_in_the_order_of_time() -> None:
    drifting = pool(cases=1, noise=0.0005)
    case = drifting.cases["test_x.py::test_0"]
    series = case.series["device_time"]
    rows = tuple(replace(row, value=row.value * (1.05 if row.process >= 10 else 1.0)) for row in series.rows)
    drifted = replace(case, series={"device_time": replace(series, rows=rows)})
    found = analysis.analyse(replace(drifting, cases={"test_x.py::test_0": drifted}), most=300)
    assert found.alarms.share > 0.2
    assert found.alarms.share > found.shuffled.share
    assert found.cases[0].advice


def test_a_noisy_case_is_named_with_what_would_help() -> None:
    found = analysis.analyse(pool(cases=1, noise=0.05, time=4e-6, clock=0.02), most=4)
    assert found.cases[0].advice.startswith("a pinned SM clock (nvidia-smi -lgc) or more work a call or time=")
    assert "Too noisy for their limit:" in list(report.lines(found))


def test_a_share_of_nothing_is_not_shown() -> None:
    made = pool(cases=2, processes=8)
    case = made.cases["test_x.py::test_0"]
    memory = case.series["memory"]
    nothing = replace(memory, rows=tuple(replace(row, value=0.0) if not row.step else row for row in memory.rows))
    cases = {**made.cases, "test_x.py::test_0": replace(case, series={**case.series, "memory": nothing})}

    def shown(**cases: PooledCase) -> list[str]:
        (power,) = (
            table
            for table in tables.tables(analysis.analyse(replace(made, cases=cases), most=2))
            if table.title.startswith("Slow-downs")
        )
        return [row[3] for row in power.rows if row[1] == "memory 2MiB"]

    assert shown(**cases) == ["+200 %"]
    assert shown(**{"test_x.py::test_0": cases["test_x.py::test_0"]}) == ["-"]


def test_a_pool_too_small_for_a_whole_confirmation_says_so() -> None:
    said = list(report.heading(analysis.analyse(pool(cases=1, processes=9), most=2)))
    assert said[3:] == [
        "careful: a confirmation had at most 4 of its 12 processes, and finds less than the gate's; "
        "the pool is to have 17",
        "careful: in pairs, comparisons had 4 of their 12 pairs, and find less than the gate's; the pool is to have 24 "
        "processes on one device, all with extra work",
        "careful: in pairs, comparisons of memory had 4 of their 12 pairs: memory that does not repeat exactly needs 8 "
        "to be REGRESSED, unless none can follow, as here; more processes give more pairs",
    ]
    assert len(list(report.heading(analysis.analyse(pool(cases=1, processes=9), most=2, total=4)))) == 3


def test_a_limit_replaces_those_of_all_cases() -> None:
    found = analysis.analyse(pool(cases=1), limit=0.005, most=15)
    assert found.cases[0].power["1%"].own.share > 0.95
    assert next(report.heading(found)) == ("nvidia-h200: 1 case in 20 fresh processes, all limits of time set to 0.5 %")


@pytest.mark.parametrize("noise", [0.002, 0.01, 0.03])
@pytest.mark.parametrize("limit", [None, Limit(0.005)])
def test_comparing_all_at_once_says_what_one_by_one_says(noise: float, limit: Limit | None) -> None:
    made = pool(cases=1, noise=noise, processes=15, seed=7)
    drawn = splits.in_time(made.processes, 6)
    words = set()
    for case in made.cases.values():
        player = Player(case, limit)
        for step in ("", "1%", "5%", "memory 2MiB"):
            together = player.play_all(drawn, step)
            assert together == [player.play(split, step) for split in drawn]
            words |= {each.verdict for each in together if each is not None}
    assert {Verdict.UNCHANGED, Verdict.REGRESSED} <= words


def test_a_comparison_needs_a_whole_baseline_and_one_process_with_the_step() -> None:
    made = pool(cases=1, processes=8).cases["test_x.py::test_0"]
    series = made.series["device_time"]
    rows = tuple(row for row in series.rows if row.process != 3 and (row.step == "" or row.process == 7))
    player = Player(PooledCase({}, {"device_time": replace(series, rows=rows)}))
    assert not player.can(splits.Split((1, 2, 3, 4, 5), (6, 7)), "")
    assert player.can(splits.Split((0, 1, 2, 4, 5), (6, 7)), "5%")
    assert not player.can(splits.Split((0, 1, 2, 4, 7), (5, 6)), "5%")


def test_runs_begin_at_each_process_after_a_baseline() -> None:
    drawn = splits.in_time([process(number) for number in range(8)])
    assert drawn[0] == splits.Split((0, 1, 2, 3, 4), (5, 6, 7))
    assert drawn[1] == splits.Split((0, 1, 2, 3, 4), (6, 7, 5))
    assert drawn[-1] == splits.Split((2, 3, 4, 5, 6), (7, 0, 1))
    assert len(drawn) == 3 + 2 + 1
    assert len(splits.in_time([process(number) for number in range(30)], 50)) == 50
    assert splits.in_time([process(number) for number in range(5)]) == []


def test_splits_share_no_process_between_the_sides() -> None:
    processes = [process(number, device=str(number % 2)) for number in range(14)]
    for drawn in (splits.in_time(processes), splits.shuffled(processes), splits.across(processes)):
        assert drawn
        assert all(not set(split.baseline) & set(split.others) for split in drawn)
    for split in splits.across(processes):
        assert len({number % 2 for number in split.baseline}) == len({number % 2 for number in split.others}) == 1


def test_intervals_are_those_of_scipy() -> None:
    from scipy.stats import binomtest

    for events, number in ((0, 19), (3, 19), (19, 19), (1, 3800)):
        wanted = binomtest(events, number).proportion_ci(0.95, method="exact")
        assert clopper_pearson(events, number) == pytest.approx((wanted.low, wanted.high))


def test_comparisons_that_share_processes_count_as_fewer() -> None:
    found = rate(0, 190, 19)
    assert (found.share, found.distinct) == (0.0, 19)
    assert found.high == pytest.approx(0.176, abs=0.001)
    assert rate(0, 0, 19).high == 1.0
    assert rate(2, 4, 19).distinct == 4


def row(values: list[float]) -> Row:
    return Row(0, "", sorted(values)[len(values) // 2], {}, summary(values))


STEADY = [1.0 + 0.001 * (number % 4) for number in range(16)]


@pytest.mark.parametrize(
    ("rule", "slower_by", "expected"),
    [
        ("pytest-benchmark mean:5%", 1.049, False),
        ("pytest-benchmark mean:5%", 1.051, True),
        ("pytest-benchmark min:5%", 1.049, False),
        ("pytest-benchmark min:5%", 1.051, True),
        ("google/benchmark U test 0.05", 1.0, False),
        ("google/benchmark U test 0.05", 1.004, True),
        ("google/benchmark U test 0.05", 0.99, False),
        ("asv 1.1x and p < 0.002", 1.09, False),
        ("asv 1.1x and p < 0.002", 1.11, True),
        ("nvbench noise (legacy)", 1.001, False),
        ("nvbench noise (legacy)", 1.002, True),
        ("flat 5 % of medians", 1.049, False),
        ("flat 5 % of medians", 1.051, True),
    ],
)
def test_rules_of_other_tools(rule: str, slower_by: float, expected: bool) -> None:
    rival = rivals.RIVALS[rule]
    before = [row(STEADY)] * rival.processes
    now = [row([value * slower_by for value in STEADY])] * rival.processes
    assert rival.slower(before, now) is expected


def test_rules_need_samples() -> None:
    bare = [Row(0, "", 1.0), Row(1, "", 1.0)]
    slow = [Row(0, "", 2.0), Row(1, "", 2.0)]
    verdicts = {name: rival.slower(bare, slow) for name, rival in rivals.RIVALS.items()}
    assert verdicts == {name: name == "flat 5 % of medians" for name in rivals.RIVALS}


def test_p_values_are_those_of_scipy() -> None:
    from scipy.stats import mannwhitneyu

    generator = random.Random(3)
    for _ in range(20):
        old = [round(generator.gauss(10, 1), 1) for _ in range(16)]
        new = [round(generator.gauss(10.5, 1), 1) for _ in range(12)]
        for kept in (2, 5, 8, 9, 16):
            distinct = [each + 1e-6 * place for place, each in enumerate(new[:kept])]
            for sample in (new[:kept], distinct):
                wanted = mannwhitneyu(old, sample, alternative="two-sided").pvalue
                assert rivals._mann_whitney(old, sample) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 7], [2, 4.5, 6.5, 8, 9, 10, 11, 12], 0.04009324009323999),
        ([1, 2, 3, 4, 5, 6], [6, 7, 8, 9, 10, 11], 0.0043290043290042),
        ([*range(25)], [*range(9, 34)], 0.0006156983489402553),
        ([3, 1], [1, 2], 1.0),
        ([1, 2, 9, 10], [3, 4, 8, 8], 1.0),
    ],
)
def test_p_values_are_those_of_asv(old: list[float], new: list[float], expected: float) -> None:
    """What ``mann_whitney_u`` of asv 0.6.6 gives."""
    assert rivals._asv_p(old, new) == pytest.approx(expected, rel=1e-9)


def test_asv_takes_the_outer_and_the_inner_processes_of_four() -> None:
    assert rivals.sides([4, 5, 6, 7, 8], rivals.RIVALS["asv 1.1x and p < 0.002"]) == [
        ([4, 7], [5, 6]),
        ([5, 8], [6, 7]),
    ]
    assert rivals.sides([1, 2, 3], rivals.RIVALS["flat 5 % of medians"]) == [([1], [2]), ([1], [3]), ([2], [3])]


def test_the_tables_say_what_was_found() -> None:
    found = analysis.analyse(pool(), most=20)
    text = list(report.lines(found, every=True))
    assert text[0] == "nvidia-h200: 3 cases in 20 fresh processes"
    assert text[1] == (
        "false alarms on unchanged code: 0 % (0 % to 7.87 %) of comparisons, 0 % (0 % to 21.8 %) of runs of the suite"
    )
    assert (
        "device clock, 20 us and more           5%       3    +5.0 %  100 %   3 of 3    100 %   3 of 3     0 %" in text
    )
    cells = list(report.markdown(found))
    assert "| device clock, 20 us and more | 5% | 3 | +5.0 % | 100 % | 3 of 3 | 100 % | 3 of 3 | 0 % |" in cells
