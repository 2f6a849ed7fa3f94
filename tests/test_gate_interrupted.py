"""Do Ctrl-C and a cancelled job lose no case, and does nothing that was started outlive the run?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perfgate import recording

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
NOISY = [1.5e-3, 0.9e-3, 1.4e-3, 1.0e-3, 1.6e-3, 0.8e-3, 1.2e-3, 1.3e-3, 0.9e-3, 1.5e-3, 1.1e-3, 1.4e-3]
# In its nth process the case presses Ctrl-C, or what another signal stands for, in the run that started it, and hangs.
PRESS = """
def press(name, number, signum):
    import os, pathlib, signal, time
    if pathlib.Path(f"{name}.taken").read_text() == str(number):
        pathlib.Path("child").write_text(str(os.getpid()))
        os.kill(os.getppid(), signum)
        time.sleep(60)
        pathlib.Path("slept").touch()
"""


def press_in(project, name: str, number: int, signum: signal.Signals = signal.SIGINT) -> None:
    """Let a case interrupt the run from its nth process."""
    source = project.path / "test_speed.py"
    call = f"benchmark(lambda: {name!r})"
    source.write_text(PRESS + source.read_text().replace(call, f"{call}; press({name!r}, {number}, {int(signum)})"))


def alive(pid: int) -> bool:
    """Whether a process still runs; one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def child(project) -> int:
    """Give the process that pressed Ctrl-C."""
    return int((project.path / "child").read_text())


@pytest.fixture(autouse=True)
def _interruptible():
    """Let runs be interrupted also where these tests were started in the background, with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def slowed(project):
    """A project of which two cases are suspicious, and one is not."""
    project.cases("a", "b", "c")
    for name in "abc":
        project.figures(name, STEADY)
    project.store("a", "b", "c")
    for name in "ac":
        project.figures(name, [2e-3])
    return project


@pytest.mark.parametrize(
    ("signum", "said"),
    [
        (signal.SIGINT, "KeyboardInterrupt"),
        (signal.SIGTERM, "perfgate.interrupts.Terminated: ended by SIGTERM"),
        pytest.param(
            signal.SIGHUP,
            "perfgate.interrupts.Terminated: ended by SIGHUP",
            marks=pytest.mark.skipif(
                signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="SIGHUP is ignored: run without nohup"
            ),
        ),
    ],
)
def test_an_end_while_confirming_loses_no_case(slowed, signum, said):
    press_in(slowed, "c", 3, signum)
    before = slowed.baseline_file().read_bytes()
    result = slowed.run("--benchmark-compare", "--perf-update=all", "--perf-json=run.json", "--junitxml=junit.xml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "2 inconclusive, 1 unchanged on cpu-pretended-2t",
            "    the run stopped before this was confirmed",
            f"*!!! {said} !!!*",
        ]
    )
    cases = {case["id"][-1]: case for case in json.loads((slowed.path / "run.json").read_text())["cases"]}
    assert {name: case["verdict"] for name, case in cases.items()} == {
        "a": "inconclusive",
        "b": "unchanged",
        "c": "inconclusive",
    }
    assert cases["a"]["metrics"][0]["change"] == pytest.approx(1.0, rel=0.01)
    assert (slowed.path / "junit.xml").read_text().count("<testcase") == 3
    assert slowed.baseline_file().read_bytes() == before
    assert within(60, lambda: not alive(child(slowed)))
    assert not (slowed.path / "slept").exists(), "the process that hangs was waited for"


def test_what_was_confirmed_before_ctrl_c_is_told(slowed):
    slowed.figures("c", [1e-3, 1.3e-3, 0.8e-3, 1.2e-3, 0.9e-3])
    slowed.store("c")
    slowed.figures("c", NOISY)
    press_in(slowed, "c", 10)
    result = slowed.run("--benchmark-compare", "--perf-json=run.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(passed=2, failed=1)
    cases = {case["id"][-1]: case for case in json.loads((slowed.path / "run.json").read_text())["cases"]}
    assert (cases["a"]["verdict"], cases["a"]["processes"]) == ("regressed", 8)
    assert cases["a"]["reason"] == "wall_time: beyond the limit and the noise"
    assert (cases["c"]["verdict"], cases["c"]["processes"]) == ("inconclusive", 8)
    assert cases["c"]["reason"] == "the run stopped before this was confirmed"


def test_ctrl_c_while_recording_writes_nothing(slowed):
    before = slowed.baseline_file().read_bytes()
    press_in(slowed, "b", 4)
    result = slowed.run("--perf-update=all")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["recorded no case, 3 left as before"])
    assert slowed.baseline_file().read_bytes() == before
    assert within(60, lambda: not alive(child(slowed)))
    assert not (slowed.path / "slept").exists(), "the process that hangs was waited for"


def test_ctrl_c_while_recording_costs_the_group_at_hand(slowed):
    conftest = slowed.path / "conftest.py"
    conftest.write_text(conftest.read_text() + "\nfrom perfgate import recording\nrecording.GROUP_S = 0.0\n")
    before = slowed.baseline()["cases"]
    press_in(slowed, "b", 4)
    result = slowed.run("--perf-update=all")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "perfgate: recording up to 1 of 3: process 5 of 5*",
            "perfgate: recording up to 2 of 3: process 2 of 5*",
            "recorded 1 case into baselines/*/test_speed.json, 2 left as before",
        ]
    )
    after = slowed.baseline()["cases"]
    assert [name for name in before if after[name] != before[name]] == ["test_a"]


def test_groups_of_a_recording_take_about_a_minute():
    took_s = {"a": 20.0, "b": 30.0, "c": 30.0, "d": 100.0, "e": 1.0}
    assert recording.groups(list(took_s), took_s) == [["a", "b"], ["c"], ["d"], ["e"]]
    assert recording.groups([], took_s) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("arguments", [(), ("--benchmark-compare",)])
def test_a_child_ends_with_the_run_that_started_it(project, arguments):
    project.figures("a", STEADY)
    (project.path / "script.json").write_text(json.dumps(project.script))
    project.pytester.makepyfile(
        """
        import os, pathlib, time, pytest

        @pytest.mark.isolate
        def test_hang(benchmark):
            pathlib.Path("new").write_text(str(os.getpid()))
            os.replace("new", "child")
            time.sleep(600)
        """
    )
    run = project.pytester.popen(
        [sys.executable, "-m", "pytest", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert within(300, (project.path / "child").exists)
        assert alive(child(project))
        # Nothing in the run can end its child any more.
        run.kill()
        run.wait()
        assert within(60, lambda: not alive(child(project)))
    finally:
        run.kill()
        run.wait()
        if (project.path / "child").exists() and alive(child(project)):
            os.kill(child(project), signal.SIGKILL)
