"""Do isolated tests of one group share a process, and nothing else?"""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

#: Each test leaves the process that it ran in. The group's tests are not neighbours.
MODULE = """
import os, pytest, time

def ran(name):
    with open(name + ".processes", "a") as file:
        file.write(f"{os.getpid()} ")

@pytest.mark.isolate(group="counts")
def test_first(benchmark):
    ran("first")
    benchmark.record("launches", 7, limit="0")

def test_shared(benchmark):
    ran("shared")
    benchmark.record("launches", 8, limit="0")

@pytest.mark.isolate(timeout=60)
def test_alone(benchmark):
    ran("alone")
    benchmark.record("launches", 9, limit="0")

@pytest.mark.isolate(group="counts")
def test_second(benchmark):
    ran("second")
    benchmark.record("launches", 10, limit="0")

@pytest.mark.isolate(group="others")
def test_other(benchmark):
    ran("other")
    benchmark.record("launches", 11, limit="0")
"""
NAMES = ("first", "shared", "alone", "second", "other")


@pytest.fixture
def grouped(project):
    project.pytester.makepyfile(
        test_speed="import pytest\npytestmark = pytest.mark.filterwarnings('ignore')\n" + MODULE
    )
    return project


def processes(project, name: str) -> list[str]:
    return (project.path / f"{name}.processes").read_text().split()


@pytest.mark.parametrize("flags", [("--benchmark-compare",), ()])
def test_a_group_shares_a_process_that_is_nobody_elses(grouped, flags):
    grouped.run(*flags).assert_outcomes(passed=5)
    first, shared, alone, second, other = (processes(grouped, name) for name in NAMES)
    assert first == second
    assert len({*first, *shared, *alone, *other}) == 4
    assert all(len(processes(grouped, name)) == 1 for name in NAMES)


def test_figures_of_each_test_are_its_own(grouped):
    cases = {case["id"].partition("::test_")[2]: case for case in grouped.json()["cases"]}
    values = {name: case["metrics"][0]["value"] for name, case in cases.items()}
    assert values == {"first": 7, "shared": 8, "alone": 9, "second": 10, "other": 11}


def test_reports_come_in_the_order_of_the_tests(grouped):
    result = grouped.run("-v", "--benchmark-compare")
    result.stdout.fnmatch_lines([f"test_speed.py::test_{name} PASSED*" for name in NAMES])


def test_a_group_is_recorded_together_too(grouped):
    grouped.run("--perf-update=new").assert_outcomes(passed=5)
    first, shared, alone, second, other = (processes(grouped, name) for name in NAMES)
    # The first process and, for counts, two more.
    assert first == second
    assert [len(each) for each in (first, shared, alone, other)] == [3, 3, 3, 3]
    assert len({*first, *shared, *alone, *other}) == 12
    stored = json.loads(grouped.baseline_file().read_text())["cases"]
    assert sorted(stored) == sorted(f"test_{name}" for name in NAMES)


def test_one_that_dies_ends_for_itself_alone(grouped):
    source = grouped.path / "test_speed.py"
    source.write_text(source.read_text().replace('ran("first")', 'ran("first"); os.abort()'))
    result = grouped.run("--benchmark-compare")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_speed.py::test_first - crashed: killed by SIGABRT (s*"])
    assert processes(grouped, "first") != processes(grouped, "second")


def test_each_has_its_own_timeout(grouped):
    source = grouped.path / "test_speed.py"
    slow = source.read_text().replace('ran("second")', "time.sleep(60)")
    head = '@pytest.mark.isolate(group="counts")\ndef test_second'
    source.write_text(slow.replace(head, head.replace("group", "timeout=2, group")))
    result = grouped.run("--benchmark-compare", "-k", "first or second")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_speed.py::test_second - timed out: no result after 2 s"])


#: What pytest-timeout does with its ``timeout_method=signal``.
TIMEOUT = """
import pytest, signal

class Hooks:
    def pytest_timeout_cancel_timer(item): pass

def pytest_addhooks(pluginmanager):
    pluginmanager.add_hookspecs(Hooks)

def ended(number, frame):
    pytest.fail("Timeout (>2s) from pytest-timeout.")

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    signal.signal(signal.SIGALRM, ended)
    signal.alarm(2)
    try:
        return (yield)
    finally:
        item.ihook.pytest_timeout_cancel_timer(item=item)

def pytest_timeout_cancel_timer():
    signal.alarm(0)
"""


def test_the_time_of_a_group_is_not_that_of_its_first_test_for_pytest_timeout_either(grouped):
    source = grouped.path / "test_speed.py"
    slow = 'time.sleep(60 if os.path.exists("hang") else 1.2); '
    source.write_text(source.read_text().replace('ran("first")', f"{slow}ran('first')").replace('ran("second")', slow))
    conftest = grouped.path / "conftest.py"
    conftest.write_text(TIMEOUT + conftest.read_text())
    grouped.run("--benchmark-compare", "-k", "first or second").assert_outcomes(passed=2, deselected=3)
    (grouped.path / "hang").touch()
    result = grouped.run("--benchmark-compare", "-k", "first or second")
    result.assert_outcomes(failed=2, deselected=3)
    result.stdout.fnmatch_lines(["FAILED test_speed.py::test_* - Failed: Timeout (>2s) from *"] * 2)


def test_what_is_skipped_or_deselected_is_not_run_with_its_group(grouped):
    source = grouped.path / "test_speed.py"
    head = '@pytest.mark.isolate(group="counts")\ndef test_second'
    source.write_text(source.read_text().replace(head, "@pytest.mark.skip\n" + head))
    grouped.run("--benchmark-compare").assert_outcomes(passed=4, skipped=1)
    source.write_text("import pytest\n" + MODULE)
    grouped.run("--benchmark-compare", "-k", "not second").assert_outcomes(passed=4, deselected=1)
    assert not (grouped.path / "second.processes").exists()


def test_what_ended_is_not_run_again_with_one_that_no_process_comes_to(grouped):
    source = grouped.path / "test_speed.py"
    unstable = """
@pytest.mark.isolate(group="counts")
@pytest.mark.parametrize("process", [os.getpid()])
def test_unstable(process):
    pass
"""
    source.write_text(source.read_text().replace("def test_shared", f"{unstable}\ndef test_shared"))
    result = grouped.run("--benchmark-compare")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["crashed: a fresh process could not run test_speed.py::test_unstable*"])
    assert len(processes(grouped, "second")) == 1


@pytest.fixture
def _interruptible():
    """Let runs be interrupted also where these tests were started in the background, with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("flags", [("--benchmark-compare", "--perf-json=run.json"), ()])
def test_ctrl_c_loses_nothing_that_the_process_of_a_group_has_found(grouped, flags):
    source = grouped.path / "test_speed.py"
    interrupts = """
@pytest.mark.isolate(group="counts")
def test_interrupts():
    import signal
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)

@pytest.mark.isolate(group="counts")
def test_behind():
    ran("behind")
"""
    source.write_text(source.read_text() + interrupts)
    result = grouped.run("-v", *flags)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"test_speed.py::test_{name} PASSED*" for name in ("first", "second")])
    assert not (grouped.path / "behind.processes").exists()
    if flags:
        cases = json.loads((grouped.path / "run.json").read_text())["cases"]
        assert [case["metrics"][0]["value"] for case in cases] == [7, 10]


def test_cases_that_are_compared_in_pairs_do_not_run_with_their_group_too(grouped):
    source = grouped.path / "test_speed.py"
    plain = '@pytest.mark.isolate(group="counts")\ndef test_plain():\n    ran("plain")\n'
    source.write_text(source.read_text().replace("\n@", f"\n{plain}\n@", 1))
    (grouped.path / "script.json").write_text(json.dumps(grouped.script))
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=one"]):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *command]
        subprocess.run(git, cwd=grouped.path, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
    grouped.run("--perf-ab=HEAD").assert_outcomes(passed=6)
    assert [len(processes(grouped, name)) for name in ("plain", "first", "second")] == [1, 1, 1]


def test_a_portion_of_a_recording_counts_what_starting_a_process_for_each_test_takes(grouped):
    source = grouped.path / "test_speed.py"
    source.write_text(source.read_text().replace('group="counts"', "timeout=60"))
    conftest = grouped.path / "conftest.py"
    slow_start = "\nimport time\nfrom perfgate import recording\nrecording.GROUP_S = 0.1\ntime.sleep(0.2)\n"
    conftest.write_text(conftest.read_text() + slow_start)
    result = grouped.run("--perf-update=new", "-k", "first or second")
    result.assert_outcomes(passed=2, deselected=3)
    result.stdout.fnmatch_lines(
        [
            "perfgate: recording up to 1 of 2: process 1 of 5",
            "perfgate: recording up to 2 of 2: process 1 of 5",
        ]
    )


def test_a_run_that_stops_tells_of_no_test_behind(grouped):
    source = grouped.path / "test_speed.py"
    source.write_text(source.read_text().replace('ran("shared")', "assert False"))
    result = grouped.run("--benchmark-compare", "-x")
    result.assert_outcomes(passed=1, failed=1)


def test_workers_of_xdist_give_each_a_process(grouped):
    grouped.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
    grouped.run("-n", "2").assert_outcomes(passed=5)
    assert all(len(processes(grouped, name)) == 1 for name in NAMES)


PROFILED = """
import pytest, torch

@pytest.mark.sm80
@pytest.mark.isolate(group="counts")
def test_counts(benchmark):
    torch.profile()
    benchmark.record("launches", 7, limit="0")

@pytest.mark.sm80
@pytest.mark.isolate(group="counts")
def test_timed(benchmark):
    TIMED

@pytest.mark.sm80
@pytest.mark.perf(clock="device")
@pytest.mark.isolate(group="counts")
def test_device(benchmark):
    benchmark(lambda: "device")
"""


@pytest.mark.parametrize("timed", ["benchmark(lambda: 'timed')", "benchmark.pedantic(lambda: 'timed', rounds=2)"])
def test_launches_are_not_timed_behind_a_profiler_of_the_group(project, timed):
    project.gpus()
    project.figures("timed", [1e-3])
    project.figures("device", [1e-3])
    module = PROFILED.replace("TIMED", timed)
    project.pytester.makepyfile(test_speed="pytestmark = []\n" + module)
    result = project.run("--benchmark-compare", "-W", "ignore")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*SettingError: test_speed.py::test_timed: a test of its isolate group has run torch's profiler before",
            "*On a GPU launches take longer from then on, in the same process.",
            "*hint: leave group= out of the isolate marker of what is timed",
        ]
    )


LAZY = """
import pytest

MARK
@pytest.mark.isolate(group="counts")
def test_counts(FIXTURE):
    import torch
    torch.profile()

@pytest.mark.sm80
@pytest.mark.isolate(group="counts")
def test_timed(benchmark):
    benchmark(lambda: "timed")
"""


@pytest.mark.parametrize("mark", ["", "@pytest.mark.sm80"])
@pytest.mark.parametrize("fixture", ["", "benchmark"])
def test_a_profiler_counts_in_a_group_whoever_starts_it(project, mark, fixture):
    project.gpus()
    project.figures("timed", [1e-3])
    project.pytester.makepyfile(test_speed=LAZY.replace("MARK", mark).replace("FIXTURE", fixture))
    result = project.run("--benchmark-compare", "-W", "ignore")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*SettingError: test_speed.py::test_timed: a test of its isolate group has run torch's profiler before"]
    )
