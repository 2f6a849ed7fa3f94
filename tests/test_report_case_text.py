"""What a failing test says about its own performance, for every verdict that can fail it."""

from __future__ import annotations

import dataclasses

import pytest

from perfgate.model import FAILING, FAILING_STRICT, CaseResult, MetricVerdict, Outcome, Verdict
from perfgate.report.case_text import failure, figures_line

TIME = MetricVerdict(
    "device_time", "s", 31.2e-6, Verdict.REGRESSED, baseline=30e-6, change=0.04, low=0.031, high=0.049, limit=0.02,
    detectable=0.012,
)  # fmt: skip
MEMORY = MetricVerdict("memory", "B", 2.0**20, Verdict.UNCHANGED, baseline=2.0**20, change=0.0, limit=0.0)


def result(verdict: Verdict, *metrics: MetricVerdict, **fields: object) -> CaseResult:
    plain = {"outcome": Outcome.PASSED, "processes": 4, "reason": "why", **fields}
    return CaseResult("a.py::t[1]", "nvidia-h200", verdict, metrics=metrics, failed=True, **plain)  # type: ignore[arg-type]


def judged(verdict: Verdict) -> CaseResult:
    return result(verdict, dataclasses.replace(TIME, verdict=verdict))


def test_a_regression() -> None:
    assert failure(result(Verdict.REGRESSED, MEMORY, TIME)).splitlines() == [
        "performance regressed: device_time 30.0 us -> 31.2 us (+4.0 %, [+3.1 %, +4.9 %], limit 2 %, 4 processes)",
        "  memory 1.00 MiB -> 1.00 MiB (0.0 %, limit 0 %): unchanged",
        "  why",
        "  hardware: nvidia-h200",
        "hint: if the change is intended, record it: pytest --perf-update=all 'a.py::t[1]'",
    ]


def test_an_outcome_that_changed() -> None:
    left_behind = dataclasses.replace(TIME, value=0.0, verdict=Verdict.OUTCOME_CHANGED)
    broken = result(Verdict.OUTCOME_CHANGED, left_behind, outcome=Outcome.OUT_OF_MEMORY, reason="it ran before")
    assert failure(broken).splitlines() == [
        "outcome changed: now out of memory",
        "  it ran before",
        "  hardware: nvidia-h200",
        "hint: run it alone to see its error: pytest 'a.py::t[1]'",
    ]


def test_a_damaged_baseline() -> None:
    damaged = result(
        Verdict.CORRUPT,
        dataclasses.replace(TIME, verdict=Verdict.CORRUPT, baseline=None, change=None, low=None, high=None, limit=None),
        reason="b/a.json: t[1]: metrics.device_time.values[0]: NaN\nhint: restore it with: git checkout -- b/a.json",
    )
    assert failure(damaged).splitlines() == [
        "baseline corrupt: b/a.json: t[1]: metrics.device_time.values[0]: NaN",
        "  device_time 31.2 us: corrupt",
        "  hardware: nvidia-h200",
        "hint: restore it with: git checkout -- b/a.json",
    ]


@pytest.mark.parametrize(
    ("verdict", "first", "hint"),
    [
        (Verdict.STALE, "baseline stale: ", "record the baseline again: pytest --perf-update=all 'a.py::t[1]'"),
        (
            Verdict.THROTTLED,
            "performance throttled: ",
            "compare again when device and host are cool and idle: pytest --benchmark-compare 'a.py::t[1]'",
        ),
        (
            Verdict.INCONCLUSIVE,
            "performance inconclusive: ",
            "use more processes: pytest --benchmark-compare --perf-processes=12 'a.py::t[1]'",
        ),
        (Verdict.NEW, "no baseline: ", "record a baseline: pytest --perf-update=new 'a.py::t[1]'"),
    ],
)
def test_what_fails_under_strict_only(verdict: Verdict, first: str, hint: str) -> None:
    figures = "device_time 30.0 us -> 31.2 us (+4.0 %, [+3.1 %, +4.9 %], limit 2 %, 4 processes)"
    least = ["  device_time: the smallest slow-down it could have shown is 1.2 %"]
    assert failure(judged(verdict), strict=True).splitlines() == [
        f"{first}{figures}",
        "  why",
        *(least if verdict is Verdict.INCONCLUSIVE else []),
        "  it fails because of --perf-strict",
        "  hardware: nvidia-h200",
        f"hint: {hint}",
    ]


def test_a_removed_case() -> None:
    removed = result(Verdict.REMOVED, processes=0, reason="stored in b/a.json, but not collected")
    assert failure(removed, strict=True).splitlines() == [
        "case removed: stored in b/a.json, but not collected",
        "  it fails because of --perf-strict",
        "  hardware: nvidia-h200",
        "hint: list and remove unused baselines: perfgate prune",
    ]


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_words_and_blames_strict_only_where_it_is_due(verdict: Verdict) -> None:
    text = failure(judged(verdict), strict=True)
    assert verdict.value.split("_")[0] in text or verdict is Verdict.NEW
    assert ("--perf-strict" in text) == (verdict in FAILING_STRICT - FAILING)
    assert "--perf-strict" not in failure(judged(verdict))
    assert not {"{", "}", "None"} & set(text.split())


def test_a_verdict_without_figures_and_reason_is_told_by_the_outcome() -> None:
    assert failure(result(Verdict.NEW, reason="", processes=0)).splitlines()[0] == "no baseline: passed"


@pytest.mark.parametrize(
    ("metric", "processes", "text"),
    [
        (TIME, 1, "device_time 30.0 us -> 31.2 us (+4.0 %, [+3.1 %, +4.9 %], limit 2 %, 1 process)"),
        (MetricVerdict("wall_time", "s", 2e-3, Verdict.NEW), 0, "wall_time 2.00 ms"),
        (MetricVerdict("error", "1", 0.25, Verdict.NEW), 5, "error 0.250 (5 processes)"),
    ],
)
def test_the_figures_of_one_metric_in_one_line(metric: MetricVerdict, processes: int, text: str) -> None:
    assert figures_line(metric, processes) == text


CYCLES = MetricVerdict(
    "wall_time", "s", 2.13e-3, Verdict.REGRESSED, baseline=2.21e-3, change=0.106, low=0.081, high=0.132, limit=0.1
)


def test_a_change_that_is_not_that_of_the_values_says_what_it_is_in() -> None:
    slower = dataclasses.replace(CYCLES, value=1.74e-3, baseline=1.17e-3, change=0.09, verdict=Verdict.UNCHANGED)
    assert failure(result(Verdict.REGRESSED, CYCLES, dataclasses.replace(slower, name="other_time"))).splitlines() == [
        "performance regressed: wall_time 2.21 ms -> 2.13 ms, +10.6 % in cycles of the machine, which ran at about "
        "115 % ([+8.1 %, +13.2 %], limit 10 %, 4 processes)",
        "  other_time 1.17 ms -> 1.74 ms, +9.0 % in cycles of the machine, which ran at about 73 % ([+8.1 %, +13.2 %], "
        "limit 10 %): unchanged",
        "  why",
        "  hardware: nvidia-h200",
        "hint: if the change is intended, record it: pytest --perf-update=all 'a.py::t[1]'",
    ]


def test_nothing_stands_behind_a_change_of_which_no_more_is_known() -> None:
    bare = dataclasses.replace(CYCLES, low=None, high=None, limit=None)
    assert figures_line(bare) == (
        "wall_time 2.21 ms -> 2.13 ms, +10.6 % in cycles of the machine, which ran at about 115 %"
    )
