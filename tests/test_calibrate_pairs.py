"""Does a calibration play ``--perf-ab`` right? Synthetic pools whose truth is known, and what is written about them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate import cli
from perfgate.ab import judge
from perfgate.calibrate import analysis, counting_pairs, report, store
from perfgate.calibrate.deciding_pairs import PairPlayer
from perfgate.calibrate.figures import Suite
from perfgate.calibrate.intervals import rate, together
from perfgate.calibrate.pairing import Pairs, in_turn
from perfgate.calibrate.pool import Pool, PooledCase, Process, Row, Series
from perfgate.model import Limit, Measurement, Metric, Noise, Verdict
from perfgate.plan import Plan

STEPS = {"": 0.0, "7%": 0.07, "10%": 0.1}
#: The limit of wall time that stored baselines have where a test names none.
UNNAMED = Limit(0.1)


def process(number: int, device: str = "") -> Process:
    return Process(f"2026-01-01T00:{number:02d}:00+00:00", 50.0, "abc", device)


def pool(
    value: Callable[[int], float] = lambda number: 1e-3,
    *,
    processes: int = 24,
    limit: Limit = UNNAMED,
    injected: int = 1,
    cases: int = 1,
) -> Pool:
    """Cases on the wall clock with a known time in each process, and a step in every ``injected``-th of them."""
    rows = [
        Row(number, step, value(number) * (1 + more))
        for number in range(processes)
        for step, more in STEPS.items()
        if not step or number % injected == 0
    ]
    time = Series("wall_time", "s", "lower", limit, Noise(0.05), tuple(rows))
    memory = Series("memory", "B", "lower", Limit(), Noise(), tuple(Row(n, "", 1024.0) for n in range(processes)))
    case = PooledCase({"clock": "wall"}, {"wall_time": time, "memory": memory})
    named = {f"tests/of_a_rather_long_name/test_functions.py::test_{number}": case for number in range(cases)}
    return Pool("cpu-x", {}, tuple(process(number) for number in range(processes)), named)


def wobble(share: float) -> Callable[[int], float]:
    """Give times that scatter by some share, in no order that base and head could share."""
    return lambda number: 1e-3 * (1 + share * ((number * 7) % 11 - 5) / 5)


def test_sides_take_turns_and_the_order_changes_with_each_pair() -> None:
    runs = in_turn([process(number) for number in range(8)], range(8), range(8), 12)
    assert runs == {
        0: Pairs((0, 3, 4, 7), (1, 2, 5, 6)),
        2: Pairs((2, 5, 6, 1), (3, 4, 7, 0)),
        4: Pairs((4, 7, 0, 3), (5, 6, 1, 2)),
        6: Pairs((6, 1, 2, 5), (7, 0, 3, 4)),
    }


def test_runs_with_fewer_pairs_count_only_where_they_have_all_that_are_wanted() -> None:
    runs = in_turn([process(number) for number in range(8)], range(8), range(8), 3)
    assert {first: len(pairs) for first, pairs in runs.items()} == {0: 4, 1: 3, 2: 4, 3: 3, 4: 4, 5: 3, 6: 4}
    assert in_turn([process(0)], {0}, {0}, 12) == {}


def test_a_head_has_the_step_and_processes_that_do_not_fit_are_passed_over() -> None:
    runs = in_turn([process(number) for number in range(12)], range(12), range(0, 12, 2), 12)
    assert runs[1] == Pairs((1, 5, 7, 11), (2, 4, 8, 10))
    assert all(first % 2 for first in runs)


def test_pairs_are_of_one_device_and_the_other_follows() -> None:
    processes = [process(number, device=str(number % 2)) for number in range(8)]
    runs = in_turn(processes, range(8), range(8), 12)
    assert runs[0] == Pairs((0, 6, 1, 7), (2, 4, 3, 5))
    assert runs[1] == Pairs((1, 7, 0, 6), (3, 5, 2, 4))


def test_time_counts_and_not_the_place_in_the_pool() -> None:
    processes = [process(number) for number in (3, 0, 2, 1)]
    assert in_turn(processes, range(4), range(4), 12)[1] == Pairs((1, 0), (3, 2))


@settings(max_examples=60, deadline=None)
@given(
    devices=st.lists(st.sampled_from("01"), max_size=16),
    able=st.sets(st.integers(0, 15)),
    stepped=st.sets(st.integers(0, 15)),
    most=st.integers(1, 12),
)
def test_no_run_uses_a_process_twice(devices: list[str], able: set[int], stepped: set[int], most: int) -> None:
    processes = [process(number, device) for number, device in enumerate(devices)]
    able &= set(range(len(devices)))
    stepped &= able
    lanes = {name: [number for number in sorted(able) if devices[number] == name] for name in "01"}
    neighbours = {pair for lane in lanes.values() for pair in itertools.pairwise(lane)}
    for first, pairs in in_turn(processes, able, stepped, most).items():
        assert pairs.base[0] == first
        assert len({*pairs.base, *pairs.head}) == 2 * len(pairs)
        assert stepped.issuperset(pairs.head)
        for place, (base, head) in enumerate(zip(pairs.base, pairs.head, strict=True)):
            assert ((head, base) if place % 2 else (base, head)) in neighbours


def test_without_noise_every_step_beyond_the_limit_is_found_and_nothing_else() -> None:
    found = counting_pairs.count(pool(), None, 200, 12)
    (case,) = found.cases
    assert (case.alarms.events, case.alarms.drawn, case.undecided.events) == (0, 12, 0)
    assert {step: power.own.share for step, power in case.power.items()} == {"7%": 1.0, "10%": 1.0}
    assert {step: (power.half.share, power.half_alarms.events) for step, power in case.power.items()} == {
        "7%": (1.0, 0),
        "10%": (1.0, 0),
    }
    assert found.verdicts == {"unchanged": 12}
    assert found.pairs == case.power["10%"].pairs == 12
    # One pair never clears wall time, and none is called slower before the eighth: the pool has room for 3 and 1.5.
    assert case.taken == found.taken == 4.0
    assert (case.alarms.distinct, found.runs.distinct, case.power["10%"].own.distinct) == (3.0, 3.0, 1.5)


def test_wall_time_has_the_limit_of_one_run_unless_the_test_names_another() -> None:
    def power(limit: Limit, replaced: Limit | None = None) -> dict[str, float]:
        (case,) = counting_pairs.count(pool(wobble(0.01), limit=limit), replaced, 200, 12).cases
        return {step: each.own.share for step, each in case.power.items()}

    assert power(Limit(0.1)) == {"7%": 1.0, "10%": 1.0}
    assert power(Limit(0.085)) == {"7%": 0.0, "10%": 1.0}
    assert power(Limit(0.085), Limit(0.12)) == {"7%": 0.0, "10%": 0.0}, "replacing a limit names it"


def test_a_drift_is_a_change_to_stored_baselines_and_none_to_pairs() -> None:
    found = analysis.analyse(pool(lambda number: 1e-3 * 1.012**number, limit=Limit(0.06)), most=60)
    assert found.alarms.share > 0.2
    assert found.in_pairs.alarms.events == found.in_pairs.runs.events == 0
    assert found.in_pairs.verdicts == {"unchanged": 12}


def test_a_step_in_the_middle_raises_no_alarm_in_pairs() -> None:
    found = analysis.analyse(pool(lambda number: 1e-3 if number < 12 else 1.3e-3), most=60)
    assert found.alarms.share > 0.2
    assert found.in_pairs.alarms.events == 0


def test_the_level_is_that_of_a_run_of_all_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    level = judge.alarm
    monkeypatch.setattr(judge, "alarm", lambda cases: asked.append(cases) or level(cases))
    counting_pairs.count(pool(cases=3, processes=6), None, 1, 12)
    assert asked == [3]


@pytest.mark.parametrize("share", [0.01, 0.04, 0.08])
@pytest.mark.parametrize("step", list(STEPS))
def test_it_is_the_gates_own_judge(share: float, step: str) -> None:
    made = pool(wobble(share), injected=2)
    (case,) = made.cases.values()
    player = PairPlayer(case, judge.alarm(1))
    runs = in_turn(made.processes, *player.sides(step), 12)
    assert runs
    values = case.series["wall_time"]

    def measured(number: int, with_step: str) -> Measurement:
        metrics = (
            Metric("wall_time", "s", values.of(with_step)[number].value),
            Metric("memory", "B", 1024.0, limit=Limit()),
        )
        return Measurement("t.py::test_a", "cpu-x", metrics=metrics, method={"version": "1"})

    for pairs in runs.values():
        played = player.play(pairs, step)
        base = [measured(number, "") for number in pairs.base]
        head = [judge.limited(measured(number, step), Plan()) for number in pairs.head]
        for total in (1, 4, 8, len(pairs)):
            last = total == len(pairs)
            told = judge.compare(base[:total], head[:total], commit="abc", level=judge.alarm(1), last=last)
            if told.verdict is not Verdict.INCONCLUSIVE or last:
                break
        assert (played.verdict, played.processes) == (told.verdict, total)


def test_fewer_pairs_are_taken_where_fewer_are_allowed() -> None:
    player = PairPlayer(next(iter(pool(wobble(0.2)).cases.values())), judge.alarm(1))
    pairs = in_turn([process(number) for number in range(24)], *player.sides(), 12)[0]
    assert [player.play(pairs, "", most).processes for most in (12, 8, 3, 1)] == [12, 8, 3, 1]


def test_a_pool_without_neighbours_has_nothing_in_pairs() -> None:
    made = pool(processes=6)
    alone = replace(made, processes=tuple(process(number, device=str(number)) for number in range(6)))
    found = analysis.analyse(alone, most=2)
    assert found.in_pairs is None
    assert not [line for line in report.lines(found, every=True) if "in pairs" in line]


def test_rates_of_cases_are_worth_the_sum_of_theirs() -> None:
    assert together([rate(3, 12, 1.5), rate(12, 12, 3.0), rate(0, 0, 0.0)]) == rate(15, 24, 4.5)


def test_a_pool_half_of_which_had_extra_work_says_how_few_pairs_there_were() -> None:
    found = analysis.analyse(pool(injected=2), most=10)
    assert [found.in_pairs.pairs, found.in_pairs.cases[0].power["10%"].pairs] == [12, 8]
    assert list(report.heading(found))[2:] == [
        "in pairs of base and head (--perf-ab): 0 % (0 % to 70.8 %) of comparisons, 0 % (0 % to 70.8 %) of runs of the "
        "suite",
        "careful: in pairs, comparisons had 8 to 12 of their 12 pairs, and find less than the gate's; the pool is to "
        "have 24 processes on one device, all with extra work",
    ]


def test_the_tables_say_what_was_found_in_pairs() -> None:
    found = analysis.analyse(pool(cases=2), most=20)
    text = list(report.lines(found, every=True))
    markdown = list(report.markdown(found, every=True))
    for line in (
        "| in pairs: comparisons of one case | 24 | 0 % | 0 % to 45.9 % | 6 |",
        "| in pairs: runs of the suite | 12 | 0 % | 0 % to 70.8 % | 3 |",
        "| wall clock | 10% | own | 12 | 100 % | 29.2 % to 100 % | 2 of 2 | 0 % | +10.0 % |",
        "| wall clock | 10% | half | 12 | 100 % | 29.2 % to 100 % | 2 of 2 | 0 % |  |",
        "| perfgate in pairs | 0 % | 0 % | 100 % | 100 % |",
        f"| {next(iter(pool().cases))} | unchanged | - | own | 12 | 0 % | 0 % to 70.8 % | 3 |",
        f"| {next(iter(pool().cases))} | 10% | +10.0 % | own | 12 | 100 % | 8.55 % to 100 % | 1.5 |",
        f"| {next(iter(pool().cases))} | 10% | - | half | 12 | 100 % | 8.55 % to 100 % | 1.5 |",
    ):
        assert line in markdown
    assert "wall clock   10%    own     12  100 %  29.2 % to 100 %   2 of 2     0 %" in text


@pytest.fixture(scope="module")
def noisy() -> Suite:
    return analysis.analyse(pool(wobble(0.3), cases=2), most=10)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(noisy: Suite, width: int) -> None:
    text = list(report.lines(noisy, every=True, width=width))
    assert max(map(len, text)) <= max(80, min(width, 120))
    name = noisy.cases[0].case
    assert "Too noisy for their limit:" in text
    assert not [line for line in text if line.lstrip().startswith("% ")], "a figure is torn from its percent sign"
    # A name that is long stands whole, once above the rows of its case.
    place = text.index("All cases in pairs of base and head (--perf-ab):")
    assert sum(name in line for line in text[place:]) == 1
    assert any(line.startswith("  what would help: ") for line in text)


def test_everything_is_written_as_json_and_to_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("suite.json").write_text(store.to_text(pool(), "suite"))
    asked = ["calibrate", "--from", "suite.json", "--comparisons", "20"]
    assert cli.main([*asked, "--json", "found.json"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert max(map(len, out)) <= 80
    assert "Found in pairs of base and head (--perf-ab):" in out
    (suite,) = json.loads(Path("found.json").read_text())
    (case,) = suite["in_pairs"]["cases"]
    assert case["power"]["10%"]["own"] == {
        "events": 12, "drawn": 12, "distinct": 1.5, "low": pytest.approx(0.0855, abs=1e-3), "high": 1.0,
    }  # fmt: skip
    assert case["power"]["10%"]["achieved"] == pytest.approx(0.1)
    assert (case["power"]["10%"]["crossed"], suite["in_pairs"]["crossed"]) == (False, False)
    assert suite["in_pairs"]["runs"]["events"] == 0
    assert cli.main([*asked, "--processes", "4", "--markdown"]) == 0
    assert (
        "| wall clock | 10% | own | 4 | 100 % | 29.2 % to 100 % | 1 of 1 | 0 % | +10.0 % |" in capsys.readouterr().out
    )
