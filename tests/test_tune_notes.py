"""Is what a timed call decided for itself kept with its figures, and named when they change?"""

from __future__ import annotations

from typing import Any

import pytest

from perfgate.baseline.record import to_baseline
from perfgate.measure import notes
from perfgate.model import Baseline, CaseResult, Measurement, Metric, Outcome, Verdict
from perfgate.verdict.causes import explained


def test_a_note_counts_only_while_something_is_timed() -> None:
    notes.note("rows", "before")
    with notes.collect() as taken:
        notes.note("rows", "8 warps")
        with notes.collect() as inner:
            notes.note("rows", "inside")
    notes.note("rows", "after")
    assert (taken, inner) == ({"rows": {"8 warps"}}, {"rows": {"inside"}})


def test_notes_end_with_an_error() -> None:
    with pytest.raises(ValueError), notes.collect() as taken:  # noqa: PT012
        notes.note("rows", "8 warps")
        raise ValueError
    notes.note("rows", "after")
    assert taken == {"rows": {"8 warps"}}


def test_values_of_one_name_are_kept_in_an_order_of_their_own() -> None:
    with notes.collect() as taken:
        for value in ("b", "a", "b"):
            notes.note("rows", value)
    assert notes.texts(taken) == {"rows": "a | b"}
    assert notes.together([{"rows": "a | b"}, {"rows": "c", "columns": "d"}]) == {"columns": "d", "rows": "a | b | c"}


def measured(**noted: str) -> Measurement:
    return Measurement("test_x.py::test_a", "cpu", metrics=(Metric("wall_time", "s", 1.0),), notes=noted)


def stored(**noted: str) -> Baseline:
    return Baseline("test_a", Outcome.PASSED, (), {}, {}, "", "", notes=noted)


def result(verdict: Verdict = Verdict.REGRESSED, reason: str = "slower") -> CaseResult:
    return CaseResult("test_x.py::test_a", "cpu", verdict, Outcome.PASSED, reason=reason)


def test_a_baseline_keeps_what_any_process_noted() -> None:
    baseline = to_baseline([measured(rows="a"), measured(rows="b"), measured(rows="a")], commit="", date="")
    assert baseline.notes == {"rows": "a | b"}


def test_another_choice_is_named_as_a_possible_cause() -> None:
    told = explained(result(), stored(rows="4 warps (tuned)"), [measured(rows="8 warps (default)")])
    assert told.reason == "slower\npossible cause: rows: 4 warps (tuned) -> 8 warps (default)"
    assert told.notes == {"rows": "8 warps (default)"}
    assert told.verdict is Verdict.REGRESSED


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"rows": "a"}, {"rows": "a"}, []),
        ({"rows": "a | b"}, {"rows": "a"}, []),
        ({"rows": "a"}, {"rows": "a | b"}, ["rows: a -> a | b"]),
        ({"rows": "a"}, {}, ["rows: a -> nothing noted"]),
        ({"rows": "a"}, {"rows": "a", "columns": "b"}, ["columns: nothing noted -> b"]),
        # Why it was chosen was not always noted, and changes nothing that runs.
        ({"rows": "a (default)"}, {"rows": "a (default: not searched)"}, []),
        ({"rows": "a (default: not searched)"}, {"rows": "a (default: none faster found)"}, []),
        ({"rows": "a (default)"}, {"rows": "b (default: why)"}, ["rows: a (default) -> b (default: why)"]),
        ({"rows": "a (default: why)"}, {"rows": "a (tuned)"}, ["rows: a (default: why) -> a (tuned)"]),
        ({"rows": "a: b (c)"}, {"rows": "a (c)"}, ["rows: a: b (c) -> a (c)"]),
        # The baseline is of a time when nothing was noted.
        ({}, {"rows": "a"}, []),
    ],
)
def test_only_news_is_named(before: dict[str, str], now: dict[str, str], told: list[str]) -> None:
    found = explained(result(reason=""), stored(**before), [measured(**now)])
    assert found.reason.splitlines() == [f"possible cause: {line}" for line in told]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_cause_is_told_where_something_changed(verdict: Verdict) -> None:
    found = explained(result(verdict), stored(rows="a"), [measured(rows="b")])
    changed = verdict in (Verdict.REGRESSED, Verdict.IMPROVED, Verdict.OUTCOME_CHANGED, Verdict.STALE)
    assert found.reason == ("slower\npossible cause: rows: a -> b" if changed else "slower")
    assert found.verdict is verdict


def test_a_configuration_that_was_tuned_with_other_software_is_named() -> None:
    before, now = "warps=8 (tuned)", "warps=8 (tuned with triton 3.6.0)"
    told = explained(result(Verdict.STALE, "triton 3.6.0 -> 3.9.0"), stored(rows=before), [measured(rows=now)])
    assert told.reason == f"triton 3.6.0 -> 3.9.0\npossible cause: rows: {before} -> {now}"


def test_a_case_without_a_baseline_has_notes_too() -> None:
    assert explained(result(Verdict.NEW), None, [measured(rows="a"), measured(rows="b")]).notes == {"rows": "a | b"}


BODY = "from perfgate.measure.notes import note; benchmark(lambda: note('rows', '{launch}') or {{name!r}})"


def launching(project: Any, launch: str) -> None:
    project.cases("a", body=BODY.format(launch=launch))


def test_a_regression_names_the_launch_that_changed(project: Any) -> None:
    project.figures("a", [1.0])
    launching(project, "num_warps=4 (tuned)")
    project.run("--perf-update=all")
    assert project.baseline()["cases"]["test_a"]["notes"] == {"rows": "num_warps=4 (tuned)"}

    launching(project, "num_warps=8 (default)")
    case = project.json()["cases"][0]
    assert (case["verdict"], case["notes"]) == ("unchanged", {"rows": "num_warps=8 (default)"})
    assert case["reason"] == ""

    project.figures("a", [1.5])
    run, ran = project.compare("--perf-processes=4")
    cause = "possible cause: rows: num_warps=4 (tuned) -> num_warps=8 (default)"
    assert [line.strip() for line in ran.outlines if "possible cause" in line] == [cause] * 2
    case = run["cases"][0]
    assert case["verdict"] == "regressed"
    assert case["reason"].splitlines()[-1] == cause
    shown = project.run("--benchmark-compare", "-vv", "--perf-processes=2")
    assert [line.strip() for line in shown.outlines if line.strip().startswith("notes:")] == [
        "notes: rows: num_warps=8 (default)"
    ]


def test_rounds_of_a_test_s_own_are_noted_too(project: Any) -> None:
    project.cases("a", body="benchmark.pedantic(note, ('rows', 'by hand'), rounds=3)")
    head = "from perfgate.measure.notes import note\n"
    module = project.path / "test_speed.py"
    module.write_text(head + module.read_text())
    case = project.json()["cases"][0]
    assert (case["verdict"], case["notes"]) == ("new", {"rows": "by hand"})
