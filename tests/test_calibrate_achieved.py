"""Does a calibration say what its extra work really was? Synthetic pools whose steps are not what they are called."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from perfgate import cli
from perfgate.ab import judge
from perfgate.calibrate import achieving, analysis, counting_pairs, pair_tables, report, store
from perfgate.calibrate.figures import InPairs, PairFigures, PairPower, Suite
from perfgate.calibrate.intervals import rate
from perfgate.calibrate.pool import Pool, PooledCase, Process, Row, Series
from perfgate.calibrate.report import _RANKED
from perfgate.measure.case import DEVICE_WALL_LIMIT
from perfgate.measure.wall import WALL_LIMIT_CPU
from perfgate.model import Limit, Noise
from perfgate.verdict import rule
from perfgate.verdict.statistics import smallest_p_value


def case(
    steps: Mapping[str, float],
    *,
    processes: int = 24,
    slow: Collection[int] = (),
    memory: Callable[[int], Mapping[str, float]] = lambda number: {},
) -> PooledCase:
    """Make a case of a CPU: steps by what they really are, and memory steps of some processes in bytes.

    ``slow``: processes in which the machine was 1.5 times as slow while the extra work was measured.
    """
    times, peaks = [], []
    for number in range(processes):
        times.append(Row(number, "", 1e-3, {"core": 1.0, "memory": 1.0}))
        for step, share in steps.items():
            by = 1.5 if number in slow else 1.0
            times.append(Row(number, step, 1e-3 * (1 + share) * by, {"core": 1 / by, "memory": 1 / by}))
        peaks.append(Row(number, "", 1024.0))
        peaks += [Row(number, step, 1024.0 + more) for step, more in memory(number).items()]
    time = Series("wall_time", "s", "lower", WALL_LIMIT_CPU, Noise(0.05), tuple(times))
    return PooledCase(
        {"clock": "wall"},
        {"wall_time": time, "memory": Series("memory", "B", "lower", Limit(), Noise(), tuple(peaks))},
    )


def pool(cases: Mapping[str, PooledCase], *, processes: int = 24, devices: int = 1) -> Pool:
    names = [str(number % devices) if devices > 1 else "" for number in range(processes)]
    made = tuple(
        Process(f"2026-01-01T00:{number:02d}:00+00:00", 50.0, "abc", names[number]) for number in range(processes)
    )
    return Pool("cpu-x", {}, made, dict(cases))


def careful(suite: Suite) -> list[str]:
    return [line for line in report.heading(suite) if line.startswith("careful: ")]


def test_a_step_of_13_percent_that_is_called_10_is_told_as_13() -> None:
    found = analysis.analyse(pool({"t.py::test_a": case({"10%": 0.13})}), most=20)
    assert found.cases[0].power["10%"].achieved == pytest.approx(0.13)
    assert found.in_pairs.cases[0].power["10%"].achieved == pytest.approx(0.13)
    assert careful(found) == [
        "careful: extra work was more than a fifth off what its step says in 1 of 1 case: t.py::test_a (10%: +13.0 %)",
        "careful: in pairs, extra work was more than a fifth off what its step says in 1 of 1 case: t.py::test_a "
        "(10%: +13.0 %)",
    ]
    markdown = list(report.markdown(found, every=True))
    assert "| t.py::test_a | 10% | +13.0 % | own | 12 | 100 % | 8.55 % to 100 % | 1.5 |" in markdown


def test_a_step_within_a_fifth_of_its_name_is_none_to_be_careful_with() -> None:
    found = analysis.analyse(pool({"t.py::test_a": case({"5%": 0.0401, "10%": 0.1199})}), most=20)
    assert careful(found) == []


def test_the_tables_tell_the_range_over_the_cases() -> None:
    cases = {f"t.py::test_{name}": case({"10%": share}) for name, share in (("a", 0.08), ("b", 0.1), ("c", 0.13))}
    found = analysis.analyse(pool(cases), most=20)
    markdown = list(report.markdown(found))
    (stored,) = [line for line in markdown if line.startswith("| CPU | 10% | 3 | ")]
    assert stored.startswith("| CPU | 10% | 3 | +10.0 % | ")
    assert stored.endswith(" | +8.0 % to +13.0 % |")
    own, half = [line for line in markdown if line.startswith(("| CPU | 10% | own", "| CPU | 10% | half"))]
    assert own.endswith(" | +10.0 % (by case +8.0 % to +13.0 %) |")
    assert half.endswith(" |  |")
    for width in (80, 100, 120):
        text = list(report.lines(found, every=True, width=width))
        assert "  achieved by case: +8.0 % to +13.0 %" in text
        assert "  achieved: +10.0 % (by case +8.0 % to +13.0 %)" in text
        assert max(map(len, text)) <= width
        assert not [line for line in text if line.strip() in ("achieved:", "achieved by case:")]


def test_what_is_achieved_is_told_in_cycles_as_the_gate_tells_it() -> None:
    (found,) = counting_pairs.count(
        pool({"t.py::test_a": case({"10%": 0.1}, slow=range(0, 24, 2))}), None, 200, 12
    ).cases
    assert found.power["10%"].achieved == pytest.approx(0.1)


def test_more_memory_is_told_too_and_nothing_where_there_was_none() -> None:
    made = case({}, memory=lambda number: {"memory 1KiB": 1024.0})
    (found,) = counting_pairs.count(pool({"t.py::test_a": made}), None, 200, 12).cases
    assert found.power["memory 1KiB"].achieved == pytest.approx(1.0)
    peaks = made.series["memory"]
    rows = tuple(replace(row, value=row.value - 1024.0) for row in peaks.rows)
    without = replace(made, series={**made.series, "memory": replace(peaks, rows=rows)})
    (found,) = counting_pairs.count(pool({"t.py::test_a": without}), None, 200, 12).cases
    assert found.power["memory 1KiB"].own.share == 1.0
    assert math.isnan(found.power["memory 1KiB"].achieved)
    assert achieving.both([math.nan]) == "-"


def in_pairs(achieved: Mapping[str, Mapping[str, float]]) -> tuple[PairFigures, ...]:
    never = rate(0, 12, 3.0)
    return tuple(
        PairFigures(
            name,
            never,
            never,
            4.0,
            {step: PairPower(never, None, None, 12, share, False) for step, share in steps.items()},
        )
        for name, steps in achieved.items()
    )


def test_the_largest_step_speaks_for_a_case_and_the_worst_cases_come_first() -> None:
    found = achieving.off(
        in_pairs(
            {
                "a": {"1%": 0.05, "5%": 0.07, "10%": 0.115, "memory 2MiB": 8.0},
                "b": {"10%": 0.1, "5%": math.nan},
                "c": {"10%": -0.05, "5%": 0.0},
                "d": {"10%": 0.12},
            }
        )
    )
    assert found == [achieving.Off("c", 0.1, -0.05), achieving.Off("a", 0.05, 0.07)]


def test_few_cases_are_named() -> None:
    cases = {
        f"t.py::test_{name}": case({"10%": share}) for name, share in zip("abcd", (0.13, 0.0, 0.14, 0.15), strict=True)
    }
    _, line = careful(analysis.analyse(pool(cases), most=10))
    assert line == (
        "careful: in pairs, extra work was more than a fifth off what its step says in 4 of 4 cases: e.g. t.py::test_b "
        "(10%: 0.0 %), t.py::test_d (10%: +15.0 %), t.py::test_c (10%: +14.0 %)"
    )


def rarely(number: int) -> dict[str, float]:
    """Give every sixth process one memory step, and the one three later another."""
    return {"memory 2MiB": 2.0**21} if number % 6 == 0 else {"memory 8MiB": 2.0**23} if number % 6 == 3 else {}


def test_memory_has_its_own_pairs() -> None:
    found = analysis.analyse(pool({"t.py::test_a": case({"10%": 0.1}, memory=rarely)}), most=10)
    assert (found.few_pairs, found.few_memory_pairs) == (None, (4, 4))
    assert careful(found) == [
        "careful: in pairs, comparisons of memory had 4 of their 12 pairs: memory that does not repeat exactly needs 8 "
        "to be REGRESSED, unless none can follow, as here; more processes, or one step alone (--memory-steps 2MiB), "
        "give more pairs"
    ]
    every_second = case({"10%": 0.1}, memory=lambda number: {"memory 8MiB": 2.0**23} if number % 2 == 0 else {})
    assert careful(analysis.analyse(pool({"t.py::test_a": every_second}), most=10)) == [
        "careful: in pairs, comparisons of memory had 8 of their 12 pairs; more processes give more pairs"
    ]
    assert analysis.analyse(pool({"t.py::test_a": case({"10%": 0.1})}), most=10).few_memory_pairs is None


def test_memory_that_does_not_repeat_needs_as_many_pairs_as_is_said() -> None:
    assert min(pairs for pairs in rule.TOTALS if smallest_p_value(pairs, pairs) <= rule.RANK) == _RANKED


def test_a_note_says_where_runs_went_on_with_another_device() -> None:
    # One lane holds 6 pairs: 4 clear what is unchanged, and a slow-down takes 8.
    found = analysis.analyse(pool({"t.py::test_a": case({"10%": 0.1})}, devices=2), most=20)
    assert found.in_pairs.crossed is False
    assert found.in_pairs.cases[0].power["10%"].crossed is True
    said = "Some comparisons went on with another device when one was used up, which --perf-ab never does."
    text = "\n".join(report.markdown(found))
    alarms, pairs = (text.index(f"**{title}") for title in ("False alarms on", "Found in pairs of"))
    assert (text.count(said), said in text[alarms:pairs]) == (1, False)
    crossed = replace(found, in_pairs=replace(found.in_pairs, crossed=True))
    assert "\n".join(report.markdown(crossed)).count(said) == 2
    assert said not in "\n".join(report.markdown(analysis.analyse(pool({"t.py::test_a": case({"10%": 0.1})}), most=20)))


def test_it_is_said_that_the_limit_of_stored_baselines_counts_as_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert {WALL_LIMIT_CPU, DEVICE_WALL_LIMIT} == {Limit(0.1)}
    assert judge.WALL_LIMIT.relative == pytest.approx(0.05)
    found = analysis.analyse(pool({"t.py::test_a": case({"10%": 0.1})}), most=20)
    assert isinstance(found.in_pairs, InPairs)
    assert (
        "wall time may change by 5 % unless the test says otherwise, or half the step. A test that says exactly 10 %, "
        "which is what stored baselines have where a test names none, is taken to say nothing."
    ) in pair_tables.found(found, found.in_pairs, ["10%"]).note
    with pytest.raises(SystemExit):
        cli.main(["calibrate", "--help"])
    assert (
        "There, a limit of wall time of exactly 10 %, which stored baselines have where a test names none, is taken "
        "for not named and becomes 5 %."
    ) in " ".join(capsys.readouterr().out.split())


def test_what_was_achieved_is_written_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.json").write_text(store.to_text(pool({"t.py::test_a": case({"10%": 0.13})}), "suite"))
    assert cli.main(["calibrate", "--from", "suite.json", "--comparisons", "5", "--json", "found.json"]) == 0
    (suite,) = json.loads(Path("found.json").read_text())
    (figures,) = suite["in_pairs"]["cases"]
    assert figures["power"]["10%"]["achieved"] == pytest.approx(0.13)
    assert suite["cases"][0]["power"]["10%"]["achieved"] == pytest.approx(0.13)
