"""Do many suspicions share fresh processes, does each test still fail on its own, and does nothing outlive a death?"""

from __future__ import annotations

import json
import textwrap

import pytest

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
NAMES = tuple("abcdefgh")
COUNTING = "import os, pathlib\npathlib.Path(__file__).with_name(f'pid.{os.getpid()}').touch()\n"


@pytest.fixture
def slowed(project):
    """A project of which every case became twice as slow."""
    project.cases(*NAMES)
    for name in NAMES:
        project.figures(name, STEADY)
    project.store(*NAMES)
    for name in NAMES:
        project.figures(name, [2 * time for time in STEADY])
    conftest = project.path / "conftest.py"
    conftest.write_text(COUNTING + conftest.read_text())
    return project


def test_suspicious_cases_share_each_process_and_fail_one_by_one(slowed):
    result = slowed.run("--benchmark-compare", "--junitxml=junit.xml", "-rA")
    result.assert_outcomes(failed=len(NAMES))
    assert len(list(slowed.path.glob("pid.*"))) == 8, "the run itself and seven fresh processes"
    assert (slowed.path / "junit.xml").read_text().count("<failure") == len(NAMES)
    for name in NAMES:
        result.stdout.fnmatch_lines([f"FAILED test_speed.py::test_{name} - performance regressed: wall_time*"])


def test_maxfail_counts_regressions(slowed):
    result = slowed.run("--benchmark-compare", "--maxfail=2", "--perf-processes=2")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*stopping after 2 failures*"])


def test_a_run_stopped_by_a_failure_confirms_nothing(slowed):
    source = slowed.path / "test_speed.py"
    source.write_text(source.read_text() + "\ndef test_zz(): assert False\n")
    result = slowed.run("--benchmark-compare", "-x")
    result.assert_outcomes(failed=1, passed=len(NAMES))
    result.stdout.fnmatch_lines([f"*{len(NAMES)} inconclusive*", "*the run stopped before this was confirmed*"])
    assert len(list(slowed.path.glob("pid.*"))) == 1


def test_progress_names_the_process(slowed):
    result = slowed.run("--benchmark-compare", "--perf-processes=4")
    result.stdout.fnmatch_lines(
        [
            "perfgate: test_speed.py::test_a: suspicious, to be confirmed in fresh processes",
            "perfgate: confirming 8 cases: process 2 of 4",
            "perfgate: confirming 8 cases: process 4 of 4",
        ]
    )
    slowed.run("--benchmark-compare", "-q", "--perf-processes=2").stdout.no_fnmatch_line("*process 2 of 4*")


def test_a_case_that_crashes_a_fresh_process_takes_no_other_with_it(project):
    project.cases("a", "b")
    for name in "ab":
        project.figures(name, STEADY)
    project.store("a", "b")
    for name in "ab":
        project.figures(name, [2e-3])
    body = "benchmark(lambda: {name!r})"
    crash = "import os; open('a.taken').read() == '2' and os.abort()"
    (project.path / "test_speed.py").write_text(
        f"def test_a(benchmark):\n    {body.format(name='a')}\n    {crash}\n\n"
        f"def test_b(benchmark):\n    {body.format(name='b')}\n"
    )
    cases = {case["id"]: case for case in project.json("--perf-processes=4")["cases"]}
    assert cases["test_speed.py::test_a"]["verdict"] == "outcome_changed"
    assert "killed by SIGABRT (signal 6)" in cases["test_speed.py::test_a"]["reason"]
    assert cases["test_speed.py::test_b"]["verdict"] == "regressed"


def test_fresh_processes_keep_options_and_drop_files(slowed):
    conftest = slowed.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + "\ndef pytest_addoption(parser):\n    parser.addoption('--colour', default='')\n"
        + "def pytest_configure(config):\n"
        + "    assert config.getoption('colour') == 'deep red'\n"
        + "    here.joinpath(f'xml.{os.getpid()}').write_text(str(config.option.xmlpath))\n"
    )
    result = slowed.run(
        "--benchmark-compare", "--colour", "deep red", "--junitxml=junit.xml", "-k", "test", "--perf-processes=3"
    )
    result.assert_outcomes(failed=8)
    assert sorted(path.read_text() for path in slowed.path.glob("xml.*")) == ["None"] * 2 + ["junit.xml"]


def test_what_fresh_processes_cannot_do_is_a_problem_not_a_pass(slowed):
    conftest = slowed.path / "conftest.py"
    conftest.write_text(conftest.read_text() + "\nassert len(list(here.glob('pid.*'))) == 1, 'only once'\n")
    result = slowed.run("--benchmark-compare", "--perf-processes=4")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*8 inconclusive*", "*a fresh process could not run test_speed.py::test_a and 7 more*"]
    )


ISOLATED = """
import ctypes, os, time, pytest

@pytest.mark.isolate
def test_segfault(): ctypes.string_at(0)

@pytest.mark.isolate(timeout=2)
def test_hang(): time.sleep(60)

@pytest.mark.isolate
def test_exit(): os._exit(7)

@pytest.mark.isolate
def test_fine(tmp_path): assert tmp_path.exists()

@pytest.mark.isolate
def test_wrong(): assert 1 == 2

@pytest.mark.isolate
def test_skip(): pytest.skip("not today")

def test_after(): pass
"""


def test_isolated_tests_have_outcomes_and_the_run_goes_on(project):
    project.pytester.makepyfile(test_iso=ISOLATED)
    result = project.run("-rA", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2, failed=4, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "FAILED test_iso.py::test_segfault - crashed: killed by SIGSEGV (signal 11)*",
            "FAILED test_iso.py::test_hang - timed out: no result after 2 s*",
            "FAILED test_iso.py::test_exit - crashed: the process ended with exit code 7*",
            "FAILED test_iso.py::test_wrong - assert 1 == 2",
        ]
    )


def test_an_isolated_case_is_gated_by_its_outcome(project):
    project.cases("a", "b", head="@pytest.mark.isolate(timeout=60)")
    for name in "ab":
        project.figures(name, STEADY)
    project.store("a", "b")
    assert project.verdicts() == {"a": "unchanged", "b": "unchanged"}
    project.cases("a", body="import ctypes; ctypes.string_at(0)", head="@pytest.mark.isolate(timeout=60)")
    source = project.path / "test_speed.py"
    source.write_text(source.read_text() + "\ndef test_b(benchmark): benchmark(lambda: 'b')\n")
    cases = {case["id"].partition("test_speed.py::")[2]: case for case in project.json()["cases"]}
    assert (cases["test_a"]["verdict"], cases["test_a"]["outcome"]) == ("outcome_changed", "crashed")
    assert cases["test_b"]["verdict"] == "unchanged"


def test_fixtures_of_other_modules_end_before_the_next_test(project):
    project.pytester.makepyfile(
        test_one="""
        import pytest
        @pytest.fixture(scope="module")
        def thing(): yield 1
        def test_first(thing): pass
        @pytest.mark.isolate
        def test_last(thing): pass
        """,
        test_two="def test_next(): pass",
    )
    project.run().assert_outcomes(passed=3)


def test_what_fresh_processes_cannot_do_is_told_once(slowed):
    conftest = slowed.path / "conftest.py"
    # Each one fails in its own words.
    conftest.write_text(
        conftest.read_text() + "\nassert len(list(here.glob('pid.*'))) == 1, f'only once, not in {os.getpid()}'\n"
    )
    result = slowed.run("--benchmark-compare", "--perf-processes=4", "--perf-json=run.json")
    assert result.ret == 1
    (problem,) = json.loads((slowed.path / "run.json").read_text())["problems"]
    lines = problem.splitlines()
    assert lines[0] == "a fresh process could not run test_speed.py::test_a and 7 more: it ended with exit code 4"
    assert [line for line in lines if "only once, not in" in line and line.startswith("E ")]
    assert lines[-1] == "hint: run it by hand: python -m pytest --perf-processes=4 test_speed.py::test_a"
    result.stdout.fnmatch_lines([f"problem: {lines[0]}"])
    assert result.stdout.str().count("a fresh process could not run") == 1


def test_what_was_found_before_fresh_processes_stopped_working_counts(slowed):
    conftest = slowed.path / "conftest.py"
    # The first fresh process dies in its third case; no other one can start.
    conftest.write_text(
        conftest.read_text()
        + "\nassert len(list(here.glob('pid.*'))) <= 2, 'no more'\n"
        + "\ndef pytest_runtest_call(item):\n"
        + "    if len(list(here.glob('pid.*'))) == 2 and item.name == 'test_c': os.abort()\n"
    )
    run = slowed.json("--perf-processes=2")
    cases = {case["id"].partition("::test_")[2]: case for case in run["cases"]}
    assert len(cases) == len(NAMES)
    assert {name: case["processes"] for name, case in cases.items() if case["processes"] > 1} == {
        "a": 2,
        "b": 2,
        "c": 2,
    }
    assert (cases["c"]["verdict"], cases["c"]["outcome"]) == ("outcome_changed", "crashed")
    assert cases["c"]["reason"] == "crashed in 1 of 2 processes: killed by SIGABRT (signal 6)"
    for name in "defgh":
        assert cases[name]["verdict"] == "inconclusive"
        assert cases[name]["reason"] == "no fresh process could run it to confirm this"
    (problem,) = run["problems"]
    assert problem.startswith(
        "a fresh process could not run test_speed.py::test_d and 4 more: it ended with exit code 4\n"
    )


def test_a_case_that_no_fresh_process_knows_is_not_recorded_and_others_are(project):
    project.figures("a", STEADY)
    # Only the first process has the second case.
    project.pytester.makepyfile(
        test_speed="""
        import pathlib
        def test_a(benchmark): benchmark(lambda: "a")
        if not pathlib.Path("a.taken").exists():
            def test_b(benchmark): benchmark(lambda: "a")
        """
    )
    result = project.run("--perf-update=all", "--perf-json=run.json")
    assert result.ret == 1
    result.assert_outcomes(passed=2)
    assert list(project.baseline()["cases"]) == ["test_a"]
    unknown, lost = json.loads((project.path / "run.json").read_text())["problems"]
    assert unknown.startswith("a fresh process could not run test_speed.py::test_b: it ended with exit code 5\n")
    assert lost == "test_speed.py::test_b: not recorded: in a fresh process it did not come back"


def test_figures_that_may_not_change_are_recorded_in_two_processes_that_agree(project):
    """One that differs once, one that may change, and one that is timed get all five."""
    source = project.path / "test_speed.py"
    source.write_text(
        COUNTING
        + textwrap.dedent(
            """
            here = pathlib.Path(__file__).parent
            def count(benchmark, name, value, **how):
                with (here / f"{name}.ran").open("a") as ran:
                    ran.write(".")
                benchmark.record("launches", value, **how)

            def test_exact(benchmark): count(benchmark, "exact", 3, limit="0")
            def test_differs(benchmark):
                before = here / "differs.ran"
                third = before.exists() and len(before.read_text()) == 2
                count(benchmark, "differs", 4 if third else 3, limit="0")
            def test_may_change(benchmark): count(benchmark, "may_change", 3, limit="5%")
            """
        )
    )
    result = project.run("--perf-update=new")
    assert "recorded 3 cases" in result.stdout.str()
    ran = {file.stem: len(file.read_text()) for file in project.path.glob("*.ran")}
    assert ran == {"exact": 1 + 2, "differs": 1 + 5, "may_change": 1 + 5}
    values = {
        name: case["metrics"]["launches"]["values"]
        for path in (project.path / "baselines").rglob("test_speed.json")
        for name, case in json.loads(path.read_text())["cases"].items()
    }
    assert values["test_exact"] == [3, 3]
    assert sorted(values["test_differs"]) == [3, 3, 3, 3, 4]
    # Two of them are enough to tell a change: nothing in them scatters.
    source.write_text(source.read_text().replace('"exact", 3', '"exact", 4'))
    result = project.run("--benchmark-compare", "-k", "exact")
    result.assert_outcomes(failed=1)
