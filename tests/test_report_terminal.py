"""The end of a test run: every figure from the record, every verdict by its word, quiet when nothing changed."""

from __future__ import annotations

import dataclasses
import io
import re
from typing import Any

import pytest
from _pytest._io import TerminalWriter

from perfgate import units
from perfgate.model import (
    SEVERITY,
    CaseResult,
    Device,
    Hardware,
    MetricVerdict,
    Outcome,
    Run,
    Verdict,
    Work,
)
from perfgate.report import terminal

GPU = Device("cuda", "NVIDIA H200", "nvidia-h200", capability=(9, 0))
CPU = Device("cpu", "AMD EPYC", "cpu-epyc")
LONG = "perf_tests/kernels/row_quantization/test_row_quantization.py::test_row_quantisation[int8-8192-3584]"

SLOWER = MetricVerdict(
    "device_time", "s", 31.2e-6, Verdict.REGRESSED, baseline=30e-6, change=0.04, low=0.031, high=0.049, limit=0.02
)
SAME_MEMORY = MetricVerdict(
    "memory", "B", 2.0**28, Verdict.UNCHANGED, baseline=2.0**28, change=0.0, low=0.0, high=0.0, limit=0.0
)


def case(name: str, verdict: Verdict, *metrics: MetricVerdict, **fields: object) -> CaseResult:
    plain = {"key": "nvidia-h200", "outcome": Outcome.PASSED, "processes": 1, **fields}
    return CaseResult(case=name, verdict=verdict, metrics=metrics, **plain)  # type: ignore[arg-type]


def unchanged(name: str, **fields: object) -> CaseResult:
    metric = MetricVerdict("device_time", "s", 30.1e-6, Verdict.UNCHANGED, baseline=30e-6, change=0.003, limit=0.02)
    return case(name, Verdict.UNCHANGED, metric, **fields)


def new(name: str, value: float = 31.2e-6) -> CaseResult:
    return case(name, Verdict.NEW, MetricVerdict("device_time", "s", value, Verdict.NEW))


def make(*results: CaseResult, **fields: object) -> Run:
    plain = {"software": {"perfgate": "0.1.0"}, "started": "2026-01-31T12:00:00Z", "duration_s": 12.5, **fields}
    return Run(hardware=Hardware((GPU, CPU)), results=results, **plain)  # type: ignore[arg-type]


def text(run: Run, verbosity: int = 0, strict: bool = False) -> list[str]:
    return [line.text for line in terminal.lines(run, verbosity, strict)]


def row(lines: list[str], start: str) -> list[str]:
    """Give the cells of the only row that starts so."""
    (line,) = [line for line in lines if line.startswith(start)]
    return re.split(r" {2,}", line)


def test_a_run_without_changes_is_one_line() -> None:
    results = [unchanged(f"test_a.py::test[{n}]") for n in range(126)]
    assert text(make(*results)) == ["126 unchanged on nvidia-h200"]


def test_cases_are_counted_by_verdict_and_hardware() -> None:
    skipped = case("test_b.py::test_fp8", Verdict.SKIPPED, outcome=Outcome.SKIPPED, processes=0, key="cpu-epyc")
    results = [unchanged("test_a.py::test_one"), unchanged("test_b.py::test_two", key="cpu-epyc"), skipped]
    assert text(make(*results)) == ["1 unchanged on nvidia-h200; 1 unchanged, 1 skipped on cpu-epyc"]


def test_a_run_without_cases_says_so() -> None:
    assert text(make()) == ["no performance case ran"]


def test_a_regression_is_told_with_all_its_figures() -> None:
    slow = case(
        "test_a.py::test_rows", Verdict.REGRESSED, SLOWER, SAME_MEMORY, processes=4, failed=True,
        reason="slower in 4 of 4 processes",
    )  # fmt: skip
    assert text(make(slow, unchanged("test_a.py::test_other"))) == [
        "1 regressed, 1 unchanged on nvidia-h200",
        "",
        "case                  metric       baseline      now  change          interval  limit  processes  verdict",
        "regressed (1 case)",
        "test_a.py::test_rows  device_time   30.0 us  31.2 us  +4.0 %  [+3.1 %, +4.9 %]    2 %          4  regressed",
        "    slower in 4 of 4 processes",
        "",
        "hint: if the change is intended, record it: pytest --perf-update=all test_a.py::test_rows",
    ]


@pytest.mark.parametrize("field", ["baseline", "value", "change", "low", "high", "limit"])
def test_each_figure_of_the_table_comes_from_its_own_field(field: str) -> None:
    figures = {"baseline": 21e-6, "value": 22e-6, "change": 0.0301, "low": 0.0111, "high": 0.0501, "limit": 0.0221}
    expected = {
        "baseline": ("21.0 us", "11.0 us"),
        "value": ("22.0 us", "12.0 us"),
        "change": ("+3.0 %", "+12.0 %"),
        "low": ("[+1.1 %, ", "[+12.0 %, "),
        "high": (", +5.0 %]", ", +12.0 %]"),
        "limit": (" 2.21 %", " 12 %"),
    }[field]
    others = {"baseline": 11e-6, "value": 12e-6}
    before = case("a.py::t", Verdict.REGRESSED, MetricVerdict("time", "s", verdict=Verdict.REGRESSED, **figures))
    changed = {**figures, field: others.get(field, 0.12)}
    after = case("a.py::t", Verdict.REGRESSED, MetricVerdict("time", "s", verdict=Verdict.REGRESSED, **changed))
    line_before, line_after = (next(x for x in text(make(run)) if x.startswith("a.py::t ")) for run in (before, after))
    # A `min` column of another tool showed the maximum: a figure may move its own cell only.
    assert expected[0] in line_before
    assert line_after.split() == line_before.replace(expected[0], expected[1]).split()


def test_the_processes_are_those_of_the_case() -> None:
    rows = text(make(case("a.py::t", Verdict.REGRESSED, SLOWER, processes=8)))
    assert row(rows, "a.py::t ")[-2:] == ["8", "regressed"]


def test_a_table_never_shows_another_unit_s_number() -> None:
    # Another tool printed 1.00 us for a function that took 30.0 us.
    line = row(text(make(new("a.py::t", 30e-6))), "a.py::t ")
    assert line == ["a.py::t", "device_time", "30.0 us", "1", "new"]


def test_columns_without_figures_are_left_out() -> None:
    lines = text(make(new("a.py::t")))
    assert lines[2].split() == ["case", "metric", "now", "processes", "verdict"]


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Outcome.OUT_OF_MEMORY, "out of memory"),
        (Outcome.ILLEGAL_ACCESS, "illegal access"),
        (Outcome.COMPILE_ERROR, "compile error"),
        (Outcome.CRASHED, "crashed"),
        (Outcome.TIMED_OUT, "timed out"),
        (Outcome.FAILED, "failed"),
    ],
)
@pytest.mark.parametrize("verdict", [Verdict.OUTCOME_CHANGED, Verdict.NEW, Verdict.STALE])
@pytest.mark.parametrize(("verbosity", "value"), [(0, 0.0), (1, 0.0), (1, 1e-6)])
def test_a_case_that_did_not_finish_has_an_outcome_and_no_latency(
    outcome: Outcome, word: str, verdict: Verdict, verbosity: int, value: float
) -> None:
    # An out-of-memory was once uploaded as latency 0.
    left_behind = MetricVerdict("device_time", "s", value, verdict, baseline=30e-6, change=-1.0, limit=0.02)
    broken = case("a.py::t", verdict, left_behind, outcome=outcome, work=Work(1e9), copy_bandwidth=4e12)
    lines = text(make(broken), verbosity)
    assert row(lines, "a.py::t ") == ["a.py::t", "device_time", "30.0 us", word, "1", verdict.replace("_", " ")]
    assert not any("0 s" in line or "1.00 us" in line or "-100" in line or "B/s" in line for line in lines)
    without = text(make(dataclasses.replace(broken, metrics=())), verbosity)
    assert row(without, "a.py::t ") == ["a.py::t", word, "1", verdict.replace("_", " ")]


@pytest.mark.parametrize("verdict", [Verdict.STALE, Verdict.NEW])
def test_stale_and_new_show_their_figures_all_the_same(verdict: Verdict) -> None:
    baseline = 30e-6 if verdict is Verdict.STALE else None
    time = MetricVerdict("device_time", "s", 31.2e-6, verdict, baseline=baseline)
    lines = text(make(case("a.py::t", verdict, time, reason="triton 3.5.0 then, 3.6.0 now")))
    assert ("30.0 us" in lines[4]) == (verdict is Verdict.STALE)
    assert "31.2 us" in lines[4]
    assert lines[5] == "    triton 3.5.0 then, 3.6.0 now"


def test_metrics_that_did_not_change_are_shown_on_request() -> None:
    run = make(case("a.py::t", Verdict.REGRESSED, SLOWER, SAME_MEMORY))
    assert not any("memory" in line for line in text(run))
    memory = row(text(run, 1), "         memory")
    assert memory == ["", "memory", "256.0 MiB", "256.0 MiB", "0.0 %", "[0.0 %, 0.0 %]", "0 %", "1", "unchanged"]


def test_a_metric_says_what_the_case_does_not() -> None:
    time = dataclasses.replace(SLOWER, reason="beyond the limit")
    memory = dataclasses.replace(SAME_MEMORY, verdict=Verdict.IMPROVED, reason="repeats exactly")
    lines = text(make(case("a.py::t", Verdict.REGRESSED, time, memory, reason="device_time: beyond the limit")))
    assert lines[6:8] == ["    device_time: beyond the limit", "    memory: repeats exactly"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("", ["    time: the smallest slow-down it could have shown is 4.1 %"]),
        (
            "12 processes would show a change of 4.1 % or more",
            ["    12 processes would show a change of 4.1 % or more"],
        ),
    ],
)
def test_inconclusive_names_the_smallest_slow_down_once(reason: str, told: list[str]) -> None:
    time = MetricVerdict("time", "s", 1e-3, Verdict.INCONCLUSIVE, baseline=1e-3, change=0.0, detectable=0.0412)
    lines = text(make(case("a.py::t", Verdict.INCONCLUSIVE, time, reason=reason, processes=12)))
    assert lines[5 : lines.index("", 2)] == told


def test_the_machine_s_conditions_stand_with_what_it_may_have_caused() -> None:
    conditions = {"sm_clock_mhz": [1200, 1980], "throttle_reasons": ["power cap"]}
    line = "    conditions: sm clock 1200 MHz to 1980 MHz, throttle reasons power cap"
    throttled = case("a.py::t", Verdict.THROTTLED, SLOWER, conditions=conditions)
    assert line in text(make(throttled))
    calm = unchanged("a.py::t", conditions=conditions, method={"version": "1", "clock": "device"})
    assert line not in text(make(calm), 1)
    assert text(make(calm), 2)[5:7] == ["    method: clock device, version 1", line]


def test_a_long_node_id_stands_whole_on_its_own_line() -> None:
    lines = text(make(new(LONG), new("a.py::t")))
    assert lines[4:8] == [LONG, "      device_time  31.2 us          1  new", "a.py::t", lines[5]]


def test_cases_are_grouped_by_verdict_the_most_severe_first() -> None:
    results = [case(f"a.py::{word}", word, SLOWER) for word in Verdict if word not in ("unchanged", "skipped")]
    headings = [line for line in text(make(*results)) if re.fullmatch(r"[a-z ]+ \(1 case\)", line)]
    words = [word for word in SEVERITY if word not in ("unchanged", "skipped")]
    assert headings == [f"{word.replace('_', ' ')} (1 case)" for word in words]


@pytest.mark.parametrize("verdict", [word for word in Verdict if word not in ("unchanged", "skipped")])
def test_only_what_does_not_fail_is_cut_short(verdict: Verdict) -> None:
    results = [case(f"a.py::t[{n}]", verdict, dataclasses.replace(SLOWER, verdict=verdict)) for n in range(126)]
    lines = text(make(*results))
    shown = [line for line in lines if line.startswith("a.py::t[")]
    if verdict in ("regressed", "outcome_changed", "corrupt"):
        assert len(shown) == 126
    else:
        assert len(shown) == 20
        assert "    ... 106 more (-v shows all)" in lines
    assert f"{verdict.replace('_', ' ')} (126 cases)" in lines
    assert len([line for line in text(make(*results), 1) if line.startswith("a.py::t[")]) == 126


def test_verbose_shows_every_case_with_its_throughput() -> None:
    calm = unchanged("a.py::t", work=Work(bytes=117.5e6, flops=58.7e6), copy_bandwidth=4.16e12)
    # 117.5e6 B in 30.1 us are 3.904e12 B/s, and 93.8 % of 4.16e12; 58.7e6 operations are 1.950e12 a second.
    assert row(text(make(calm), 1), "a.py::t ")[-1] == "3.90 TB/s, 93.8 % of copy, 1.95 TFLOP/s"
    assert not any("TB/s" in line for line in text(make(dataclasses.replace(calm, verdict=Verdict.NEW)), 0))


def test_throughput_rests_on_device_time_before_wall_time() -> None:
    times = [
        MetricVerdict("wall_time", "s", 2e-3, Verdict.UNCHANGED),
        MetricVerdict("device_time", "s", 1e-3, Verdict.UNCHANGED),
    ]
    both = text(make(case("a.py::t", Verdict.UNCHANGED, *times, work=Work(bytes=1e9))), 1)
    assert row(both, "a.py::t ")[-1] == "unchanged"
    assert row(both, "         device_time")[-1] == "1.00 TB/s"
    wall = text(make(case("a.py::t", Verdict.UNCHANGED, times[0], work=Work(bytes=1e9))), 1)
    assert row(wall, "a.py::t ")[-1] == "500.0 GB/s"


def test_the_share_of_bandwidth_is_of_the_case_s_own_device() -> None:
    # A roofline row was once copied from another card.
    work = Work(bytes=30.1e6)
    results = [
        unchanged("a.py::fast", work=work, copy_bandwidth=4e12),
        unchanged("a.py::slow", work=work, copy_bandwidth=2e12, key="nvidia-a100"),
        unchanged("a.py::none", work=work),
    ]
    lines = text(make(*results), 2)
    assert row(lines, "a.py::fast ")[-1] == "1.00 TB/s, 25 % of copy"
    assert row(lines, "a.py::slow ")[-1] == "1.00 TB/s, 50 % of copy"
    assert row(lines, "a.py::none ")[-1] == "1.00 TB/s"
    assert [line for line in lines if "copy bandwidth" in line] == [
        "    copy bandwidth of nvidia-h200: 4.00 TB/s",
        "    copy bandwidth of nvidia-a100: 2.00 TB/s",
    ]


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_time_that_is_none_gives_no_throughput(value: float) -> None:
    time = MetricVerdict("device_time", "s", value, Verdict.NEW)
    lines = text(make(case("a.py::t", Verdict.NEW, time, work=Work(bytes=1e9), copy_bandwidth=4e12)), 1)
    assert not any("B/s" in line for line in lines)


def test_skipped_cases_are_listed_with_their_reason_on_request() -> None:
    skipped = case("a.py::t", Verdict.SKIPPED, outcome=Outcome.SKIPPED, processes=0, reason="needs a GPU")
    assert text(make(skipped)) == ["1 skipped on nvidia-h200"]
    assert text(make(skipped), 1)[3:] == ["skipped (1 case)", "a.py::t  skipped", "    needs a GPU", ""]


def test_a_test_that_failed_by_itself_is_not_called_skipped() -> None:
    failed = case("a.py::t", Verdict.SKIPPED, outcome=Outcome.FAILED, reason="the test failed; its time was not judged")
    skipped = case("a.py::u", Verdict.SKIPPED, outcome=Outcome.SKIPPED, processes=0)
    run = make(failed, skipped, unchanged("a.py::v"))
    assert text(run) == [
        "1 unchanged, 1 not judged, 1 skipped on nvidia-h200",
        "",
        "case        now  processes  verdict",
        "not judged (1 case)",
        "a.py::t  failed          1  not judged",
        "    the test failed; its time was not judged",
        "",
    ]
    assert next(terminal.lines(run)).markup == {"yellow": True}
    assert "skipped (1 case)" in text(run, 1)


def test_a_recording_says_what_went_where() -> None:
    files = ("baselines/nvidia-h200/a.json",)
    results = [new(f"a.py::t[{n}]") for n in range(9)]
    run = make(*results, compared=False, recorded=tuple(each.case for each in results), files=files)
    assert text(run) == ["recorded 9 cases into baselines/nvidia-h200/a.json"]
    assert text(run, 1)[1] == "    baselines/nvidia-h200/a.json"
    more = dataclasses.replace(run, files=("baselines/cpu-epyc/a.json", "baselines/nvidia-h200/a.json"))
    assert text(more) == ["recorded 9 cases into 2 files in baselines"]


def test_a_recording_tells_what_it_left_out() -> None:
    broken = case("a.py::big", Verdict.NEW, outcome=Outcome.OUT_OF_MEMORY, reason="tried to allocate 20.0 GiB")
    run = make(
        new("a.py::t"), unchanged("a.py::old"), broken, compared=False, recorded=("a.py::t",), files=("b/a.json",)
    )
    assert text(run) == [
        "recorded 1 case into b/a.json, 1 left as before, 1 out of memory",
        "",
        "case                 now  processes  verdict",
        "new (1 case)",
        "a.py::big  out of memory          1  new",
        "    tried to allocate 20.0 GiB",
        "",
    ]
    assert text(make(unchanged("a.py::old"), compared=False)) == ["recorded no case, 1 left as before"]


def test_a_recording_shows_where_it_departs_from_the_old_baseline() -> None:
    results = [case(f"a.py::{word}", word, dataclasses.replace(SLOWER, verdict=word)) for word in Verdict]
    run = make(*results, compared=False, recorded=tuple(each.case for each in results), files=("b/a.json",))
    headings = [line for line in terminal.lines(run) if line.text.endswith("(1 case)")]
    assert [line.text for line in headings] == [
        "corrupt (1 case)",
        "outcome changed (1 case)",
        "regressed (1 case)",
        "improved (1 case)",
    ]
    # Nothing fails in a recording.
    assert not any("red" in line.markup for line in headings)


def test_a_removed_case_did_not_run() -> None:
    removed = case("a.py::t", Verdict.REMOVED, outcome=Outcome.OUT_OF_MEMORY, processes=0, reason="no longer there")
    assert text(make(removed)) == [
        "1 removed on nvidia-h200",
        "",
        "case     verdict",
        "removed (1 case)",
        "a.py::t  removed",
        "    no longer there",
        "",
        "hint: list and remove unused baselines: perfgate prune",
    ]


def test_a_figure_that_is_gone_is_not_a_case_that_is_gone() -> None:
    gone = MetricVerdict("device_time", "s", 30e-6, Verdict.REMOVED, baseline=30e-6)
    lacking = case("a.py::t", Verdict.REMOVED, gone, SAME_MEMORY)
    again = "hint: if that figure is no longer wanted, record the baseline without it: pytest --perf-update=all a.py::t"
    assert text(make(lacking))[-2:] == ["", again]
    removed = case("a.py::u", Verdict.REMOVED, processes=0)
    assert text(make(lacking, removed))[-2:] == [again, "hint: list and remove unused baselines: perfgate prune"]


@pytest.mark.parametrize(
    ("names", "where"),
    [
        (["a.py::t[../1]", "d/a.py::u"], " '../../a.py::t[../1]' ../../d/a.py::u"),
        ([f"d/a.py::t[{n}]" for n in range(4)], " ../../d/a.py"),
        ([f"d/{n}/a.py::t" for n in range(4)], " ../../d"),
        ([f"{n}/a.py::t" for n in range(4)], " ../.."),
    ],
)
def test_hints_name_cases_as_pytest_finds_them_from_a_subfolder(names: list[str], where: str) -> None:
    run = make(*[new(name) for name in names])
    lines = [line.text for line in terminal.lines(run, folder="../..")]
    assert lines[-1] == f"hint: record a baseline: pytest --perf-update=new{where}"


def test_a_comparison_that_records_says_both_and_hints_at_neither() -> None:
    run = make(new("a.py::t"), recorded=("a.py::t",), files=("b/a.json",))
    lines = text(run)
    assert lines[:2] == ["1 new on nvidia-h200", "recorded 1 case into b/a.json"]
    assert lines[-1] == ""


def test_problems_and_unused_baselines_follow_the_table() -> None:
    run = make(
        unchanged("a.py::t"),
        problems=("b/a.json: cannot be written: No space left on device",),
        unused=("b/gone.json", "b/old.json"),
    )
    assert text(run) == [
        "1 unchanged on nvidia-h200",
        "problem: b/a.json: cannot be written: No space left on device",
        "unused baseline: b/gone.json",
        "unused baseline: b/old.json",
        "hint: list and remove unused baselines: perfgate prune",
    ]
    many = make(unchanged("a.py::t"), unused=tuple(f"b/{n}.json" for n in range(30)))
    assert text(many)[21] == "... 10 more (-v shows all)"
    assert len(text(many, 1)) == len(text(make(unchanged("a.py::t")), 1)) + 31


HINTS = {
    Verdict.CORRUPT: ["restore the baseline file named above: git restore FILE"],
    Verdict.OUTCOME_CHANGED: ["it runs now; keep that: pytest --perf-update=all 'a.py::t[1]'"],
    Verdict.REGRESSED: ["if the change is intended, record it: pytest --perf-update=all 'a.py::t[1]'"],
    Verdict.STALE: ["record the baseline again: pytest --perf-update=all 'a.py::t[1]'"],
    Verdict.THROTTLED: [
        "compare again when device and host are cool and idle: pytest --benchmark-compare 'a.py::t[1]'"
    ],
    Verdict.INCONCLUSIVE: ["use more processes: pytest --benchmark-compare --perf-processes=12 'a.py::t[1]'"],
    Verdict.REMOVED: ["list and remove unused baselines: perfgate prune"],
    Verdict.NEW: ["record a baseline: pytest --perf-update=new 'a.py::t[1]'"],
    Verdict.IMPROVED: ["keep the improvement: pytest --perf-update=all 'a.py::t[1]'"],
    Verdict.UNCHANGED: [],
    Verdict.SKIPPED: [],
}


@pytest.mark.parametrize("verdict", Verdict)
def test_the_next_command_is_named(verdict: Verdict) -> None:
    lines = text(make(case("a.py::t[1]", verdict, SLOWER)))
    assert [line for line in lines if line.startswith("hint:")] == [f"hint: {hint}" for hint in HINTS[verdict]]


def test_a_damaged_baseline_brings_its_own_hint() -> None:
    reason = "b/a.json: cut short\nhint: restore it with: git checkout -- b/a.json"
    lines = text(make(case("a.py::t", Verdict.CORRUPT, reason=reason, failed=True), unchanged("a.py::u")))
    assert lines[4:] == [
        "a.py::t          1  corrupt",
        "    b/a.json: cut short",
        "",
        "hint: restore it with: git checkout -- b/a.json",
    ]


def test_a_case_that_stopped_running_is_to_be_looked_at_first() -> None:
    broken = case("a.py::t", Verdict.OUTCOME_CHANGED, outcome=Outcome.CRASHED)
    assert text(make(broken))[-1] == "hint: run it alone to see its error: pytest a.py::t"
    other = dataclasses.replace(broken, case="a.py::u")
    assert text(make(broken, other))[-1] == "hint: run them alone to see their errors: pytest a.py::t a.py::u"


@pytest.mark.parametrize(
    ("names", "where"),
    [
        (["a.py::t[1]", "a.py::u"], " 'a.py::t[1]' a.py::u"),
        ([f"d/a.py::t[{n}]" for n in range(4)], " d/a.py"),
        ([f"d/{n}/a.py::t" for n in range(4)], " d"),
        ([f"{n}/a.py::t" for n in range(4)], ""),
    ],
)
def test_many_cases_are_named_by_file_or_folder(names: list[str], where: str) -> None:
    lines = text(make(*[new(name) for name in names]))
    assert lines[-1] == f"hint: record a baseline: pytest --perf-update=new{where}"


def test_a_file_is_not_recorded_again_while_something_in_it_fails() -> None:
    stale = [case(f"a.py::t[{n}]", Verdict.STALE, SLOWER) for n in range(4)]
    assert text(make(*stale))[-1] == "hint: record the baseline again: pytest --perf-update=all a.py"
    lines = text(make(*stale, case("a.py::u", Verdict.REGRESSED, SLOWER)))
    assert (
        lines[-1]
        == "hint: record the baseline again, once nothing in these files regresses: pytest --perf-update=all a.py"
    )


def test_more_processes_than_were_used_are_asked_for() -> None:
    lines = text(make(case("a.py::t", Verdict.INCONCLUSIVE, SLOWER, processes=12)))
    assert lines[-1] == "hint: use more processes: pytest --benchmark-compare --perf-processes=24 a.py::t"


UNCLEAR = MetricVerdict("wall_time", "s", 1.1e-3, Verdict.INCONCLUSIVE, baseline=1e-3, change=0.1, limit=0.1)
MORE = "use more processes: pytest --benchmark-compare --perf-processes=24 a.py::t a.py::u"


@pytest.mark.parametrize(
    ("now", "other", "hint"),
    [
        ("9f8e7d6", {}, "compare with the baseline's commit, both in turn: pytest --perf-ab=0a1b2c3 a.py::t a.py::u"),
        (
            "0a1b2c3+changes",
            {},
            "compare with the baseline's commit, both in turn: pytest --perf-ab=0a1b2c3 a.py::t a.py::u",
        ),
        ("0a1b2c3", {}, MORE),
        ("", {}, MORE),
        ("9f8e7d6", {"baseline_commit": "4d5e6f7"}, MORE),
        ("9f8e7d6", {"key": "nvidia-h200"}, MORE),
        ("9f8e7d6", {"processes": 8}, MORE),
        ("9f8e7d6", {"metrics": (UNCLEAR, dataclasses.replace(UNCLEAR, name="memory"))}, MORE),
    ],
    ids=[
        "another commit",
        "changes",
        "the same",
        "no git",
        "two baselines",
        "a GPU",
        "not repeated to the end",
        "memory",
    ],
)
def test_what_a_noisy_cpu_leaves_open_is_compared_with_the_commit(now: str, other: dict[str, Any], hint: str) -> None:
    first = case("a.py::t", Verdict.INCONCLUSIVE, UNCLEAR, processes=12, key="cpu-a", baseline_commit="0a1b2c3")
    second = dataclasses.replace(first, **{"case": "a.py::u"} | other)
    assert text(make(first, second, commit=now))[-1] == f"hint: {hint}"


def test_a_tree_that_was_never_committed_cannot_be_compared_with() -> None:
    changed = {"key": "cpu-a", "baseline_commit": "0a1b2c3+changes"}
    lines = text(make(case("a.py::t", Verdict.INCONCLUSIVE, UNCLEAR, processes=12, **changed), commit="9f8e7d6"))
    assert lines[-1] == "hint: use more processes: pytest --benchmark-compare --perf-processes=24 a.py::t"


def everything() -> Run:
    """Give a run in which every line of the report occurs."""
    results = [
        case(f"a.py::{word}", word, SLOWER, SAME_MEMORY, reason="why", conditions={"load": 1}) for word in Verdict
    ]
    broken = [case(f"a.py::{each}", Verdict.OUTCOME_CHANGED, outcome=each) for each in Outcome]
    many = [new(f"a.py::many[{n}]") for n in range(30)]
    work = unchanged("a.py::work", work=Work(1e6, 1e6), copy_bandwidth=1e12, method={"clock": "wall"})
    fields = {"problems": ("p",), "unused": ("u",), "recorded": ("r",), "files": ("f",)}
    return make(*results, *broken, *many, work, **fields)


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_no_line_shows_a_placeholder(verbosity: int) -> None:
    # A warning of another tool lost the f before its text.
    for compared in (True, False):
        run = dataclasses.replace(everything(), compared=compared)
        assert not [line for line in text(run, verbosity, True) if "{" in line or "}" in line or "None" in line]


def test_every_line_can_be_written_by_pytest() -> None:
    stream = io.StringIO()
    writer = TerminalWriter(stream)
    writer.hasmarkup = True
    for line in terminal.lines(everything(), 2):
        writer.line(line.text, **line.markup)
    assert "\x1b[31m" in stream.getvalue()


def test_colour_follows_what_fails() -> None:
    stale = make(case("a.py::t", Verdict.STALE, SLOWER))
    (heading,) = [line for line in terminal.lines(stale) if line.text == "stale (1 case)"]
    assert heading.markup == {"yellow": True, "bold": True}
    (heading,) = [line for line in terminal.lines(stale, strict=True) if line.text == "stale (1 case)"]
    assert heading.markup == {"red": True, "bold": True}
    assert next(terminal.lines(make(unchanged("a.py::t")))).markup == {"green": True}
    assert next(terminal.lines(make(unchanged("a.py::t"), problems=("p",)))).markup == {"yellow": True}


def test_lines_hold_no_figure_that_the_record_does_not() -> None:
    lines = "\n".join(text(everything(), 2))
    figures = set(re.findall(r"[\d.]+ (?:us|MiB|TB/s|GB/s|GFLOP/s)", lines))
    known = {
        *units.together([31.2e-6, 30e-6, 30.1e-6], "s"),
        *units.together([2.0**28], "B"),
        units.quantity(1e6 / 30.1e-6, "B/s"),
        units.quantity(1e6 / 30.1e-6, "FLOP/s"),
        units.quantity(1e12, "B/s"),
    }
    assert figures <= known


def test_a_change_that_is_not_that_of_the_values_is_marked() -> None:
    time = MetricVerdict("wall_time", "s", 2.13e-3, Verdict.REGRESSED, baseline=2.21e-3, change=0.106, limit=0.1)
    plain = dataclasses.replace(time, value=2.45e-3, change=0.108)
    shown = text(make(case("a.py::t", Verdict.REGRESSED, time), case("a.py::u", Verdict.REGRESSED, plain)))
    assert [line.split("ms")[-1].split("10 %  ")[0] for line in shown if line.startswith("a.py")] == [
        "  +10.6 % in cycles   ",
        "            +10.8 %   ",
    ]
