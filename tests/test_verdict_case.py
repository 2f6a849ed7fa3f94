"""The verdict on a case: outcomes, what it was measured with, its metrics, and which word wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from perfgate.model import (
    FAILING,
    FAILING_STRICT,
    Baseline,
    CaseResult,
    Limit,
    Measurement,
    Metric,
    Noise,
    Outcome,
    StoredMetric,
    Verdict,
    Work,
)
from perfgate.verdict.case import fails, judge, totals

METHOD = {"version": "1", "clock": "device"}
SOFTWARE = {"torch": "2.13.0", "driver": "580.1"}
TIME = StoredMetric("time", "s", "lower", (1.0, 1.01, 0.99, 1.0, 1.0))
MEMORY = StoredMetric("peak_allocated", "B", "lower", (4096.0,) * 5)


def baseline(
    *metrics: StoredMetric,
    outcome: Outcome = Outcome.PASSED,
    method: Mapping[str, str] = METHOD,
    environment: Mapping[str, str] = SOFTWARE,
) -> Baseline:
    return Baseline("a.py::case", outcome, metrics, method, environment, "abc", "2030-01-01")


def time(value: float) -> Metric:
    return Metric("time", "s", value, limit=Limit(0.1), noise=Noise(0.01))


def memory(value: float) -> Metric:
    return Metric("peak_allocated", "B", value)


def measured(*metrics: Metric, outcome: Outcome = Outcome.PASSED, reason: str = "") -> Measurement:
    return Measurement("a.py::case", "cpu-x", outcome, reason, metrics, METHOD, SOFTWARE)


def words(result: CaseResult) -> dict[str, Verdict]:
    return {metric.name: metric.verdict for metric in result.metrics}


# --- the plan of a confirmation


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, (1,)),
        (2, (2,)),
        (4, (4,)),
        (6, (4, 6)),
        (8, (4, 8)),
        (12, (4, 8, 12)),
        (20, (4, 8, 12, 20)),
    ],
)
def test_totals_are_cut_at_the_limit(limit: int, expected: tuple[int, ...]) -> None:
    assert totals(limit) == expected


def test_totals_need_the_screening_process() -> None:
    with pytest.raises(ValueError, match=r"^at least the screening process must run, not 0$"):
        totals(0)


@pytest.mark.parametrize("verdict", Verdict)
def test_what_fails_and_what_fails_under_strict(verdict: Verdict) -> None:
    assert fails(verdict, strict=False) is (verdict in FAILING)
    assert fails(verdict, strict=True) is (verdict in FAILING_STRICT)


# --- passed before, passed now


def test_a_case_like_its_baseline_is_unchanged_and_carries_what_was_measured() -> None:
    measurement = replace(
        measured(time(1.0), memory(4096)),
        work=Work(bytes=8.0),
        copy_bandwidth=4e12,
        conditions={"load": 0.1},
    )
    result = judge(baseline(TIME, MEMORY), [measurement], last=False)
    assert (result.verdict, result.outcome, result.processes) == (Verdict.UNCHANGED, Outcome.PASSED, 1)
    assert (result.case, result.key, result.reason, result.failed) == ("a.py::case", "cpu-x", "", False)
    assert (result.work, result.copy_bandwidth, result.method) == (Work(bytes=8.0), 4e12, METHOD)
    assert result.conditions == {"load": 0.1}
    assert words(result) == {"time": Verdict.UNCHANGED, "peak_allocated": Verdict.UNCHANGED}


def test_the_worst_metric_names_the_case_and_its_reason() -> None:
    runs = [measured(time(1.5), memory(4095)) for _ in range(8)]
    result = judge(baseline(TIME, MEMORY), runs, last=True)
    assert (result.verdict, result.processes) == (Verdict.REGRESSED, 8)
    assert result.reason == "time: beyond the limit and the noise"
    assert words(result) == {"time": Verdict.REGRESSED, "peak_allocated": Verdict.IMPROVED}


def test_reasons_of_all_metrics_with_the_word_are_told() -> None:
    runs = [measured(time(1.5), memory(5000)) for _ in range(8)]
    result = judge(baseline(TIME, MEMORY), runs, last=True)
    assert result.reason == (
        "time: beyond the limit and the noise; peak_allocated: beyond the limit, and the figure repeats exactly"
    )


def test_the_value_shown_is_the_median_over_the_processes() -> None:
    runs = [measured(time(value)) for value in (1.5, 1.6, 1.7, 1.4, 1.5, 1.55, 1.5, 1.5)]
    result = judge(baseline(TIME), runs, last=True)
    assert result.metrics[0].value == 1.5
    assert result.metrics[0].baseline == 1.0


def test_only_the_suspects_are_judged_again() -> None:
    runs = [measured(time(1.0), memory(5000)), *[measured(time(1.5), memory(5000))] * 7]
    result = judge(baseline(TIME, MEMORY), runs, last=True, only=frozenset({"peak_allocated"}))
    assert words(result) == {"time": Verdict.UNCHANGED, "peak_allocated": Verdict.REGRESSED}
    assert result.metrics[0].value == 1.0


def test_a_metric_that_was_not_repeated_for_its_own_sake_keeps_what_the_screen_said() -> None:
    runs = [measured(time(1.5), memory(5000))] * 8
    result = judge(baseline(TIME, MEMORY), runs, last=True, only=frozenset({"peak_allocated"}))
    assert words(result) == {"time": Verdict.INCONCLUSIVE, "peak_allocated": Verdict.REGRESSED}
    assert result.metrics[0].reason == "undecided after 1 process"


def test_a_regression_beside_a_new_metric_is_still_a_regression() -> None:
    runs = [measured(time(1.5), Metric("error", "1", 0.5)) for _ in range(8)]
    result = judge(baseline(TIME), runs, last=True)
    assert result.verdict is Verdict.REGRESSED
    assert words(result) == {"time": Verdict.REGRESSED, "error": Verdict.NEW}


def test_a_metric_that_is_not_stored_is_new() -> None:
    result = judge(baseline(TIME), [measured(time(1.0), Metric("error", "1", 0.5))], last=False)
    assert (result.verdict, result.reason) == (Verdict.NEW, "error: not in the baseline")
    assert (result.metrics[1].value, result.metrics[1].change) == (0.5, None)


@pytest.mark.parametrize(("value", "verdict"), [(0.0, Verdict.UNCHANGED), (1.0, Verdict.REGRESSED)])
def test_a_metric_that_need_not_be_stored_is_judged_all_the_same(value: float, verdict: Verdict) -> None:
    failures = Metric("failures", "1", value, unless_stored=0.0)
    result = judge(baseline(TIME), [measured(time(1e-3), failures)], last=True)
    assert words(result)["failures"] is verdict
    for nothing_known in (None, baseline(outcome=Outcome.UNSUPPORTED)):
        assert words(judge(nothing_known, [measured(failures)], last=True)) == {"failures": Verdict.NEW}


def test_a_metric_that_is_no_longer_measured_is_removed() -> None:
    result = judge(baseline(TIME, MEMORY), [measured(time(1.0))], last=False)
    assert result.verdict is Verdict.REMOVED
    assert result.reason == "peak_allocated: stored, but no longer measured; its value is the stored one"
    assert (result.metrics[1].value, result.metrics[1].baseline, result.metrics[1].change) == (4096, 4096, None)


def test_a_case_without_any_metric_is_not_unchanged() -> None:
    result = judge(baseline(), [measured()], last=True)
    assert (result.verdict, result.reason) == (Verdict.SKIPPED, "nothing was measured")


def test_a_case_without_a_measurement_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"^a case without a measurement cannot be judged$"):
        judge(None, [], last=True)


def test_a_figure_that_is_not_a_number_fails_the_case() -> None:
    result = judge(baseline(TIME), [measured(time(float("nan")))], last=False)
    assert result.verdict is Verdict.CORRUPT
    assert result.reason == "time: measured nan, which is not a finite number"


# --- no baseline, another baseline


def test_a_case_without_a_baseline_is_new_and_shows_its_values() -> None:
    result = judge(None, [measured(time(1.0)), measured(time(3.0)), measured(time(2.0))], last=True)
    assert (result.verdict, result.reason) == (Verdict.NEW, "no baseline")
    assert [(m.value, m.verdict, m.baseline, m.reason) for m in result.metrics] == [(2.0, Verdict.NEW, None, "")]


def test_another_environment_and_method_make_a_case_stale_and_name_each_difference() -> None:
    old = baseline(
        TIME,
        method={"version": "0", "clock": "device", "launch": "graph"},
        environment={"torch": "2.11.0", "driver": "570.9"},
    )
    result = judge(old, [measured(time(1.5), memory(1))], last=False)
    named = "method version 0 -> 1, launch graph -> not recorded, torch 2.11.0 -> 2.13.0, driver 570.9 -> 580.1"
    assert (result.verdict, result.reason) == (Verdict.STALE, named)
    assert words(result) == {"time": Verdict.STALE, "peak_allocated": Verdict.NEW}
    assert result.metrics[0].reason == named
    assert result.metrics[0].change == pytest.approx(0.5)


def test_a_replica_that_measured_in_another_way_makes_the_case_stale() -> None:
    other = replace(measured(time(1.5)), method={**METHOD, "clock": "wall"})
    result = judge(baseline(TIME), [measured(time(1.5)), measured(time(1.5)), other, other], last=False)
    assert (result.verdict, result.reason) == (Verdict.STALE, "clock device -> wall")


def test_another_unit_makes_a_metric_stale_without_a_change() -> None:
    result = judge(baseline(TIME), [measured(replace(time(1000.0), unit="ms"))], last=False)
    assert (result.verdict, result.reason) == (Verdict.STALE, "time: unit s -> ms")
    assert (result.metrics[0].value, result.metrics[0].change) == (1000.0, None)


def test_another_direction_makes_a_metric_stale_and_shows_the_change() -> None:
    result = judge(baseline(TIME), [measured(replace(time(2.0), better="higher"))], last=False)
    assert (result.verdict, result.reason) == (Verdict.STALE, "time: better lower -> higher")
    assert result.metrics[0].change == pytest.approx(1.0)


def test_a_stale_metric_does_not_hide_another_that_is_under_suspicion() -> None:
    stored = baseline(TIME, replace(MEMORY, unit="KiB"))
    runs = [measured(time(1.5), memory(4096)) for _ in range(8)]
    screen = judge(stored, runs[:1], last=False)
    assert (screen.verdict, screen.reason) == (Verdict.INCONCLUSIVE, "time: undecided after 1 process")
    assert words(screen) == {"time": Verdict.INCONCLUSIVE, "peak_allocated": Verdict.STALE}
    assert judge(stored, runs, last=False, only=frozenset({"time"})).verdict is Verdict.REGRESSED
    # At the end the order of severity holds again.
    noisy = [measured(time(value), memory(4096)) for value in (1.5, 0.5, 1.6, 0.6)]
    assert judge(stored, noisy, last=True).verdict is Verdict.STALE


def test_a_metric_that_already_failed_ends_the_case() -> None:
    runs = [measured(time(1.5), memory(5000)) for _ in range(4)]
    result = judge(baseline(TIME, MEMORY), runs, last=False)
    assert result.verdict is Verdict.REGRESSED
    assert words(result) == {"time": Verdict.INCONCLUSIVE, "peak_allocated": Verdict.REGRESSED}


# --- outcomes


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome.OUT_OF_MEMORY, "out of memory"),
        (Outcome.ILLEGAL_ACCESS, "illegal access"),
        (Outcome.COMPILE_ERROR, "compile error"),
        (Outcome.CRASHED, "crashed"),
        (Outcome.TIMED_OUT, "timed out"),
    ],
)
def test_a_case_that_passed_and_now_does_not_changed_its_outcome(outcome: Outcome, told: str) -> None:
    result = judge(baseline(TIME), [measured(outcome=outcome, reason="tried 80 GiB")], last=False)
    assert (result.verdict, result.outcome) == (Verdict.OUTCOME_CHANGED, outcome)
    assert result.reason == f"passed -> {told}: tried 80 GiB"
    assert result.metrics == ()


def test_a_changed_outcome_under_other_software_says_so() -> None:
    old = baseline(TIME, environment={"torch": "2.11.0", "driver": "580.1"})
    result = judge(old, [measured(outcome=Outcome.CRASHED)], last=False)
    assert (result.verdict, result.reason) == (Verdict.OUTCOME_CHANGED, "passed -> crashed (torch 2.11.0 -> 2.13.0)")


def test_a_process_that_died_before_it_told_its_software_is_not_called_other_software() -> None:
    died = Measurement("a.py::case", "cpu-x", Outcome.CRASHED, "signal 11")
    result = judge(baseline(TIME), [died], last=False)
    assert (result.verdict, result.reason) == (Verdict.OUTCOME_CHANGED, "passed -> crashed: signal 11")


def test_a_case_that_passes_again_is_improved() -> None:
    result = judge(baseline(outcome=Outcome.OUT_OF_MEMORY), [measured(time(1.0))], last=False)
    assert (result.verdict, result.reason) == (Verdict.IMPROVED, "out of memory -> passed")
    assert words(result) == {"time": Verdict.NEW}


def test_a_case_that_fails_in_another_way_changed_its_outcome() -> None:
    result = judge(baseline(outcome=Outcome.OUT_OF_MEMORY), [measured(outcome=Outcome.CRASHED)], last=False)
    assert (result.verdict, result.reason) == (Verdict.OUTCOME_CHANGED, "out of memory -> crashed")


@pytest.mark.parametrize("outcome", [Outcome.OUT_OF_MEMORY, Outcome.FAILED])
def test_a_case_with_the_stored_outcome_is_unchanged(outcome: Outcome) -> None:
    result = judge(baseline(outcome=outcome), [measured(outcome=outcome)], last=False)
    assert (result.verdict, result.reason) == (Verdict.UNCHANGED, f"still {outcome.value.replace('_', ' ')}")


def test_a_case_without_a_baseline_that_does_not_pass_is_new_and_says_how_it_ended() -> None:
    result = judge(None, [measured(outcome=Outcome.TIMED_OUT, reason="after 60 s")], last=False)
    assert (result.verdict, result.reason) == (Verdict.NEW, "no baseline; timed out: after 60 s")


@pytest.mark.parametrize("stored", [None, baseline(TIME), baseline(outcome=Outcome.OUT_OF_MEMORY)])
def test_a_test_that_plainly_failed_is_not_judged(stored: Baseline | None) -> None:
    result = judge(stored, [measured(time(1.0), outcome=Outcome.FAILED, reason="assert 1 == 2")], last=False)
    assert (result.verdict, result.outcome) == (Verdict.SKIPPED, Outcome.FAILED)
    assert result.reason == "the test failed; its time was not judged"


@pytest.mark.parametrize("stored", [None, baseline(TIME)])
def test_a_skipped_case_keeps_its_reason(stored: Baseline | None) -> None:
    result = judge(stored, [measured(outcome=Outcome.SKIPPED, reason="needs sm80")], last=False)
    assert (result.verdict, result.outcome, result.reason) == (Verdict.SKIPPED, Outcome.SKIPPED, "needs sm80")


@pytest.mark.parametrize("stored", [None, baseline(TIME)])
def test_a_fresh_process_that_ended_otherwise_changes_the_outcome(stored: Baseline | None) -> None:
    runs = [measured(time(1.5)), measured(time(1.5)), measured(outcome=Outcome.CRASHED), measured(time(1.5))]
    result = judge(stored, runs, last=False)
    assert (result.verdict, result.outcome) == (Verdict.OUTCOME_CHANGED, Outcome.CRASHED)
    assert (result.reason, result.processes) == ("crashed in 1 of 4 processes", 4)
    assert words(result) == {"time": Verdict.INCONCLUSIVE if stored else Verdict.NEW}


def test_a_fresh_process_that_crashed_is_told_of_a_case_that_is_stored_as_out_of_memory() -> None:
    runs = [measured(time(1.5)), measured(outcome=Outcome.CRASHED)]
    result = judge(baseline(outcome=Outcome.OUT_OF_MEMORY), runs, last=True)
    assert (result.verdict, result.reason) == (Verdict.OUTCOME_CHANGED, "crashed in 1 of 2 processes")


def test_fresh_processes_that_ended_in_several_ways_are_counted() -> None:
    out = measured(outcome=Outcome.OUT_OF_MEMORY, reason="tried 80 GiB")
    runs = [measured(time(1.5)), out, out, measured(outcome=Outcome.CRASHED)]
    result = judge(baseline(TIME), runs, last=True)
    assert result.outcome is Outcome.OUT_OF_MEMORY
    assert result.reason == "out of memory in 2 and crashed in 1 of 4 processes: tried 80 GiB"


# --- a change in cycles


def on_a_machine(speed: float, value: float) -> CaseResult:
    """Judge 8 processes of a machine that runs at this share of its speed at recording."""
    stored = replace(TIME, speeds={"core": (2.0,) * 5})
    now = [measured(replace(time(value + 0.001 * place), speeds={"core": 2.0 * speed})) for place in range(8)]
    return judge(baseline(stored), now, last=True)


@pytest.mark.parametrize(
    ("speed", "value", "verdict", "reason"),
    [
        (
            1.27, 0.97, Verdict.REGRESSED,
            "time: beyond the limit and the noise; the machine ran at 127 % (core) of the speed at recording; the "
            "change is in its cycles, process by process",
        ),
        (
            0.97, 1.24, Verdict.REGRESSED,
            "time: beyond the limit and the noise; the change is in cycles of the machine, which ran at about 97 % of "
            "the speed at recording",
        ),
        (1.0, 1.24, Verdict.REGRESSED, "time: beyond the limit and the noise"),
        (0.97, 1.03, Verdict.UNCHANGED, ""),
    ],
)  # fmt: skip
def test_the_reason_says_where_the_change_is_not_that_of_the_values(
    speed: float, value: float, verdict: Verdict, reason: str
) -> None:
    result = on_a_machine(speed, value)
    assert (result.verdict, result.reason) == (verdict, reason)
    assert result.metrics[0].reason == reason.removeprefix("time: ")


def test_a_metric_that_is_not_asked_again_says_it_too() -> None:
    stored = replace(TIME, speeds={"core": (2.0,) * 5})
    now = [measured(replace(time(0.8), speeds={"core": 2.5}), memory(4096.0))] * 4
    (metric, _) = judge(baseline(stored, MEMORY), now, last=True, only=frozenset({"peak_allocated"})).metrics
    assert metric.reason == (
        "the machine ran at 125 % (core) of the speed at recording; the change is in its cycles, process by process"
    )


def test_a_stale_metric_says_why_it_is_stale_and_no_more() -> None:
    stored = replace(TIME, speeds={"core": (2.0,) * 5})
    now = measured(replace(time(0.8), speeds={"core": 2.5}))
    result = judge(baseline(stored, environment={"torch": "2.12.0", "driver": "580.1"}), [now], last=True)
    assert result.reason == result.metrics[0].reason == "torch 2.12.0 -> 2.13.0"
