"""Is a pair measured again when the machine changed between its sides, and only then, and not for ever?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

import pytest

from perfgate.ab import shaken
from perfgate.model import Measurement, Metric


def one(**speeds: float) -> Measurement:
    return Measurement("a", "cpu", metrics=(Metric("memory", "B", 1.0), Metric("wall_time", "s", 1e-3, speeds=speeds)))


@pytest.mark.parametrize(
    ("base", "head", "expected"),
    [
        ({}, {}, False),
        ({"core": 100.0}, {"core": 104.0}, False),
        ({"core": 100.0}, {"core": 106.0}, True),
        ({"core": 106.0}, {"core": 100.0}, True),
        ({"core": 100.0, "memory": 100.0}, {"core": 100.0, "memory": 80.0}, True),
        ({"core": 100.0}, {"memory": 50.0}, False),
        ({"core": 0.0}, {"core": 100.0}, False),
    ],
)
def test_speeds_of_the_two_sides_are_compared(base, head, expected):
    assert shaken.shaken(one(**base), one(**head)) is expected


def test_a_process_that_died_has_no_speeds():
    assert not shaken.shaken(Measurement("a", ""), one(core=1.0))


def at_speeds(project, name: str, speeds: Sequence[float]) -> None:
    """Script processes of one case that take the same cycles at other speeds: the slower, the longer."""
    project.script["cases"][name] = [
        {"time": 1e-3 * 100 / speed, "memory": 1 << 20, "speeds": {"core": speed, "memory": speed}} for speed in speeds
    ]


def compare(project, base: Sequence[float]) -> tuple[dict[str, dict], pytest.RunResult]:
    """Compare with a commit whose processes of case a saw these speeds; give the cases by name, and pytest's result."""
    head = project.script["cases"]["a"]
    at_speeds(project, "a", base)
    (project.path / "script.json").write_text(json.dumps(project.script))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "--quiet"], ["add", "test_speed.py", "script.json"], ["commit", "--quiet", "-m", "one"]):
        subprocess.run([*git, *command], cwd=project.path, check=True)
    project.script["cases"]["a"] = head
    result = project.run("--perf-ab=HEAD", "--perf-json=run.json", "--perf-processes=4")
    run = json.loads((project.path / "run.json").read_text())
    return {case["id"].rpartition("_")[2]: case for case in run["cases"]}, result


def test_a_pair_that_the_machine_shook_is_measured_again_for_the_cases_that_saw_it(project):
    project.cases("a", "b")
    project.figures("b", [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3])
    at_speeds(project, "a", [100.0])
    found, result = compare(project, base=[70.0, 100.0])
    told = [line for line in result.outlines if line.startswith("perfgate: comparing") and "pair 1 of 1" in line]
    assert [line.split()[2:5] for line in told] == [
        ["2", "cases:", "base"],
        ["2", "cases:", "head"],
        ["1", "case:", "base"],
        ["1", "case:", "head"],
    ]
    result.stdout.fnmatch_lines(["1 pair measured again: the machine's speed changed between their sides"])
    assert {name: case["verdict"] for name, case in found.items()} == {"a": "unchanged", "b": "unchanged"}
    # The shaken pair is gone from both sides.
    time = found["a"]["metrics"][0]
    assert len(time["values"]) == len(time["baseline_values"]) == found["a"]["processes"]
    assert max(time["baseline_values"]) == pytest.approx(1e-3)


def test_a_machine_that_never_rests_ends_the_run_all_the_same(project):
    project.cases("a")
    at_speeds(project, "a", [100.0])
    found, result = compare(project, base=[70.0])
    result.stdout.fnmatch_lines(["2 pairs measured again: the machine's speed changed between their sides"])
    assert found["a"]["processes"] == len(found["a"]["metrics"][0]["baseline_values"]) == 4


def test_a_quiet_machine_measures_no_pair_again(project):
    project.cases("a")
    at_speeds(project, "a", [100.0, 102.0, 99.0, 101.0])
    _, result = compare(project, base=[100.0])
    result.stdout.no_fnmatch_line("*measured again*")
    result.assert_outcomes(passed=1)
