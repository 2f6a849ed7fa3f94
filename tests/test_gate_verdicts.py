"""Does each verdict come out of the whole gate, on the test itself?"""

from __future__ import annotations

import json

import pytest

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3, 0.998e-3]
MIB = 1 << 20


def scaled(factor: float) -> list[float]:
    return [time * factor for time in STEADY]


@pytest.fixture
def steady(project):
    """A project with one case, ``a``, and its baseline."""
    project.cases("a")
    project.figures("a", STEADY)
    project.store("a")
    return project


def test_unchanged_code_passes_quietly(steady):
    result = steady.run("--benchmark-compare")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*1 unchanged on cpu-pretended-2t*"])
    assert len(list(steady.path.glob("*.taken"))) == 1
    assert (steady.path / "a.taken").read_text() == "1", "an unchanged case is measured once"


def test_a_slow_down_fails_the_test_itself(steady):
    steady.cases("a", "b")
    steady.figures("b", STEADY)
    steady.store("b")
    steady.figures("a", scaled(1.3))
    result = steady.run("--benchmark-compare", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAILED test_speed.py::test_a - performance regressed: wall_time 1.00 ms -> 1*"])
    junit = (steady.path / "junit.xml").read_text()
    assert 'failures="1"' in junit
    assert "performance regressed: wall_time" in junit


def test_eight_mib_more_memory_fails(steady):
    steady.figures("a", STEADY, memory=9 * MIB)
    result = steady.run("--benchmark-compare", "--perf-processes=4")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*memory 1.00 MiB -> 9.00 MiB*"])


def test_a_faster_case_is_improved_and_passes(steady):
    steady.figures("a", scaled(0.7))
    run, result = steady.compare("--perf-processes=4")
    assert [case["verdict"] for case in run["cases"]] == ["improved"]
    result.assert_outcomes(passed=1)


def test_without_a_baseline_a_case_is_new(project):
    project.cases("a")
    project.figures("a", STEADY)
    result = project.run("--benchmark-compare")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*1 new on cpu-pretended-2t*", "*1.00 ms*", "hint: *--perf-update=new*"])
    project.run("--benchmark-compare", "--perf-strict").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"environments": {"cpu": {"python": "3.11.7", "torch": "2.14.0"}}}, "torch 2.13.0 -> 2.14.0"),
        ({"method": {"version": "2", "clock": "wall"}}, "version 1 -> 2"),
    ],
)
def test_another_environment_or_method_is_stale_with_figures(steady, change, reason):
    steady.script.update(change)
    steady.figures("a", scaled(1.5))
    run, result = steady.compare()
    case = run["cases"][0]
    assert case["verdict"] == "stale"
    assert reason in case["reason"]
    assert case["metrics"][0]["change"] == pytest.approx(0.5, rel=0.01)
    result.assert_outcomes(passed=1)
    steady.run("--benchmark-compare", "--perf-strict").assert_outcomes(failed=1)


def test_noise_too_large_to_tell_is_inconclusive(project):
    project.cases("a")
    project.figures("a", [1e-3, 1.3e-3, 0.8e-3, 1.2e-3, 0.9e-3])
    project.store("a")
    project.figures(
        "a", [1.5e-3, 0.9e-3, 1.4e-3, 1.0e-3, 1.6e-3, 0.8e-3, 1.2e-3, 1.3e-3, 0.9e-3, 1.5e-3, 1.1e-3, 1.4e-3]
    )
    run, result = project.compare()
    case = run["cases"][0]
    assert (case["verdict"], case["processes"]) == ("inconclusive", 12)
    assert case["metrics"][0]["detectable"] > case["metrics"][0]["limit"]
    result.assert_outcomes(passed=1)
    run, result = project.compare("--perf-strict", "--perf-processes=4")
    assert (run["cases"][0]["verdict"], run["cases"][0]["processes"]) == ("inconclusive", 4)
    result.assert_outcomes(failed=1)


def test_slower_only_in_seconds_is_throttled(project):
    project.cases("a")
    project.figures("a", STEADY, speeds={"sm_clock": 1.98e9})
    project.store("a")
    project.figures("a", scaled(1.4), speeds={"sm_clock": 1.98e9 / 1.4})
    run, result = project.compare("--perf-processes=4")
    case = run["cases"][0]
    assert case["verdict"] == "throttled"
    assert "1980" in case["reason"]
    result.assert_outcomes(passed=1)
    project.run("--benchmark-compare", "--perf-strict", "--perf-processes=4").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        ("raise MemoryError('no room')", "out_of_memory", "out of memory"),
        (
            "raise RuntimeError('CUDA error: an illegal memory access was encountered')",
            "illegal_access",
            "illegal access",
        ),
        ("raise type('CompilationError', (Exception,), dict())('fp8e4nv')", "compile_error", "compile error"),
    ],
)
def test_another_outcome_is_outcome_changed(steady, error, outcome, words):
    steady.cases("a", body=error)
    run, result = steady.compare()
    case = run["cases"][0]
    assert (case["verdict"], case["outcome"]) == ("outcome_changed", outcome)
    assert f"passed -> {words}" in case["reason"]
    result.assert_outcomes(failed=1)


def test_a_known_outcome_is_expected_and_its_end_an_improvement(steady):
    head = '@pytest.mark.perf(outcomes=("out_of_memory",))'
    steady.store("a", outcome="out_of_memory")
    steady.cases("a", body="raise MemoryError('no room')", head=head)
    run, result = steady.compare()
    assert [case["verdict"] for case in run["cases"]] == ["unchanged"]
    result.assert_outcomes(xfailed=1)
    steady.cases("a", head=head)
    assert steady.verdicts() == {"a": "improved"}


def test_an_expected_failure_is_no_regression(steady):
    """A goal that is known to be missed: it is not judged, says why, and leaves the run green."""
    goal = '@pytest.mark.xfail(raises=AssertionError, strict=False, reason="missed: 2.8 x of 3 x")'
    steady.cases("a", body="benchmark(lambda: {name!r}); assert False", head=goal)
    run, result = steady.compare("--perf-strict", "-rx")
    (case,) = run["cases"]
    assert (case["verdict"], case["outcome"], case["failed"]) == ("skipped", "skipped", False)
    assert case["reason"] == "expected to fail: missed: 2.8 x of 3 x"
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["XFAIL test_speed.py::test_a - missed: 2.8 x of 3 x"])
    # Another error than that of the goal fails, and what passes is judged as any case is.
    steady.cases("a", body="benchmark(lambda: {name!r}); raise ValueError", head=goal)
    steady.run("--benchmark-compare").assert_outcomes(failed=1)
    steady.cases("a", head=goal)
    steady.run("--benchmark-compare").assert_outcomes(xpassed=1)
    steady.figures("a", scaled(1.3))
    run, result = steady.compare("--perf-processes=4")
    assert [case["verdict"] for case in run["cases"]] == ["regressed"]
    result.assert_outcomes(failed=1)


def test_a_known_outcome_is_recorded_only_if_the_marker_names_it(project):
    body = "raise MemoryError('no room')"
    project.cases("a", body=body)
    project.run("--perf-update=all").assert_outcomes(failed=1)
    assert not project.baseline_file().exists()
    project.cases("a", body=body, head='@pytest.mark.perf(outcomes=("out_of_memory",))')
    project.run("--perf-update=all")
    assert '"out_of_memory"' in project.baseline_file().read_text()


def test_a_plain_failure_is_not_judged(steady):
    steady.cases("a", body="assert benchmark(lambda: {name!r}) == 'b'")
    case = steady.json()["cases"][0]
    assert (case["verdict"], case["outcome"], case["reason"]) == (
        "skipped",
        "failed",
        "the test failed; its time was not judged",
    )


def test_a_stored_case_that_is_gone_is_removed(steady):
    steady.cases("b")
    steady.figures("b", STEADY)
    run, result = steady.compare()
    assert {case["id"][-1]: case["verdict"] for case in run["cases"]} == {"b": "new", "a": "removed"}
    assert result.ret == 0
    assert steady.run("--benchmark-compare", "--perf-strict").ret == 1


def test_hints_can_be_typed_where_pytest_was_called(steady, monkeypatch):
    (steady.path / "sub").mkdir()
    monkeypatch.chdir(steady.path / "sub")
    steady.figures("a", [2e-3])
    result = steady.run("--benchmark-compare", "--perf-processes=1", "..")
    hint = "hint: if the change is intended, record it: pytest --perf-update=all ../test_speed.py::test_a"
    assert [line for line in result.stdout.lines if hint in line] == [hint, hint], "with the failure and at the end"


@pytest.mark.parametrize("args", [("-k", "b"), ("test_speed.py::test_b",), ("--deselect", "test_speed.py::test_a")])
def test_a_case_that_was_only_left_out_is_not_removed(steady, args):
    steady.cases("a", "b")
    steady.figures("b", STEADY)
    steady.store("b")
    assert steady.verdicts(*args) == {"b": "unchanged"}


def test_a_baseline_of_a_module_that_is_gone_is_named(steady):
    steady.pytester.makepyfile(test_other="def test_nothing(): pass")
    (steady.path / "test_speed.py").unlink()
    result = steady.run("--benchmark-compare")
    result.stdout.fnmatch_lines(["*baselines/cpu-pretended-2t/test_speed.json*", "hint: *perfgate prune*"])


def test_a_damaged_entry_fails_its_case_and_no_other(steady):
    steady.cases("a", "b")
    steady.figures("b", STEADY)
    steady.store("b")

    def damage(data):
        data["cases"]["test_a"]["metrics"]["wall_time"]["values"][2] = "fast"

    steady.edit_baseline(damage)
    run, result = steady.compare()
    assert {case["id"]: case["verdict"] for case in run["cases"]} == {
        "test_speed.py::test_a": "corrupt",
        "test_speed.py::test_b": "unchanged",
    }
    reason = run["cases"][0]["reason"]
    assert "test_speed.json" in reason
    assert "test_a" in reason
    assert "wall_time" in reason
    result.assert_outcomes(passed=1, failed=1)


def test_an_unreadable_file_fails_its_cases_and_recording_leaves_it_alone(steady):
    text = steady.baseline_file().read_text()
    cut = text[: len(text) // 2]
    steady.baseline_file().write_text(cut)
    assert steady.verdicts() == {"a": "corrupt"}
    result = steady.run("--perf-update=all")
    assert result.ret == 1
    assert steady.baseline_file().read_text() == cut
    result.stdout.fnmatch_lines(["*test_speed.json*"])


def test_skips_are_kept_as_outcomes(project):
    project.cases("a", head="@pytest.mark.sm80")
    run, result = project.compare("-m", "sm80")
    case = run["cases"][0]
    assert (case["verdict"], case["outcome"]) == ("skipped", "skipped")
    assert case["reason"] == "needs compute capability 8.0 or more (sm80): this machine has no CUDA device"
    result.assert_outcomes(skipped=1)
    assert result.ret == 0


def test_recorded_figures_are_gated_too(project):
    project.cases("a", body="benchmark(lambda: {name!r}); benchmark.record('error', ERROR, limit='10%')")
    source = project.path / "test_speed.py"
    text = source.read_text()
    project.figures("a", STEADY)
    source.write_text("ERROR = 1.0\n" + text)
    project.run("--perf-update=all")
    source.write_text("ERROR = 1.05\n" + text)
    assert project.verdicts() == {"a": "unchanged"}
    source.write_text("ERROR = 1.2\n" + text)
    result = project.run("--benchmark-compare", "--perf-processes=4")
    result.stdout.fnmatch_lines(["FAILED test_speed.py::test_a - performance regressed: error 1 -> 1.20*"])


def test_an_error_in_teardown_does_not_hide_how_the_call_ended(steady):
    steady.cases("a", body="raise MemoryError('no room')")
    source = steady.path / "test_speed.py"
    source.write_text(
        source.read_text()
        + "\n@pytest.fixture(autouse=True)\ndef thing():\n    yield\n    raise ValueError('still in use')\n"
    )
    result = steady.run("--benchmark-compare", "--perf-json=run.json")
    result.assert_outcomes(failed=1, errors=1)
    case = json.loads((steady.path / "run.json").read_text())["cases"][0]
    assert (case["verdict"], case["outcome"]) == ("outcome_changed", "out_of_memory")
    assert case["reason"] == "passed -> out of memory: MemoryError: no room"


def test_an_error_in_teardown_alone_is_how_the_case_ended(steady):
    source = steady.path / "test_speed.py"
    source.write_text(
        source.read_text()
        + "\n@pytest.fixture(autouse=True)\ndef thing():\n    yield\n    raise MemoryError('no room')\n"
    )
    case = steady.json()["cases"][0]
    assert (case["verdict"], case["outcome"]) == ("outcome_changed", "out_of_memory")


@pytest.fixture
def cached(project):
    """Two cases with baselines and a baseline of a third that is gone; ``b`` fails. pytest keeps its cache."""
    project.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate\n")
    for name in ("a", "b", "gone"):
        project.figures(name, STEADY)
    project.store("a", "b", "gone")
    project.cases("a", "b")
    source = project.path / "test_speed.py"
    source.write_text(source.read_text().replace("benchmark(lambda: 'b')", "assert benchmark(lambda: 'b') == 'c'"))
    return project


def test_last_failed_judges_what_it_runs_and_misses_nothing(cached):
    assert cached.verdicts() == {"a": "unchanged", "b": "skipped", "gone": "removed"}
    cached.cases("a", "b")
    cached.figures("b", scaled(2))
    # The fresh processes that confirm it have no last failure to go by.
    assert cached.verdicts("--lf", "--perf-processes=4") == {"b": "regressed"}
    cached.figures("b", STEADY)
    assert cached.verdicts("--last-failed") == {"b": "unchanged"}


def test_a_module_outside_the_rootdir_is_refused_while_it_is_gated(project):
    project.cases("a")
    project.figures("a", STEADY)
    root = project.pytester.mkdir("root")
    (root / "test_inside.py").write_text("def test_b(benchmark): benchmark(lambda: 'a')\n")
    arguments = (f"--rootdir={root}", "test_speed.py", "root/test_inside.py")
    result = project.run("--benchmark-compare", "--perf-json=run.json", *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            f"ERROR: {project.path}/test_speed.py: pytest calls its test ::test_a, as if it were {root}",
            "hint: run pytest once for each project: not everything given is in " + str(root),
        ]
    )
    project.run(*arguments).assert_outcomes(passed=2)
