"""Does a long test show that it goes on, and a short one nothing?"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("forked")

CASE = """
import pytest
from perfgate import progress

@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    ticks = iter({ticks})
    class Clocked(progress.Progress):
        def __init__(self, config):
            super().__init__(config, clock=lambda: next(ticks))
    monkeypatch.setattr("perfgate.fixture.Progress", Clocked)

def test_long(seconds, benchmark):
    for step in range({steps}):
        print("captured", step)
        benchmark.progress(f"step {{step}}")
    benchmark(lambda: None)
"""


def shown(pytester: pytest.Pytester, ticks: list[float], *arguments: str) -> list[str]:
    pytester.makepyfile(CASE.format(ticks=ticks, steps=len(ticks) - 1))
    ran = pytester.runpytest_subprocess("--benchmark-disable", *arguments)
    ran.assert_outcomes(passed=1)
    assert "captured" not in ran.stdout.str()
    return [line for line in ran.outlines if "step" in line]


def test_one_line_every_five_seconds(pytester: pytest.Pytester) -> None:
    lines = shown(pytester, [0, 1, 5, 6, 9.9, 10, 11])
    name = "test_one_line_every_five_seconds.py::test_long"
    assert lines == [f"perfgate: {name}: step 1", f"perfgate: {name}: step 4"]


def test_what_takes_long_is_told_at_once(pytester: pytest.Pytester) -> None:
    """And counts as the last line shown."""
    case = CASE.replace('{{step}}")', '{{step}}", at_once=step == 1)')
    pytester.makepyfile(case.format(ticks=[0, 1, 2, 3, 6.9, 7], steps=5))
    ran = pytester.runpytest_subprocess("--benchmark-disable")
    ran.assert_outcomes(passed=1)
    assert [line[-6:] for line in ran.outlines if "step" in line] == ["step 1", "step 4"]


def test_nothing_under_q(pytester: pytest.Pytester) -> None:
    assert shown(pytester, [0, 100, 200], "-q") == []


def test_it_shows_without_pytests_capture_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CASE.format(ticks=[0, 7], steps=1))
    ran = pytester.runpytest_subprocess("--benchmark-disable", "-p", "no:capture")
    ran.assert_outcomes(passed=1)
    assert any(line.endswith("test_long: step 0") for line in ran.outlines)


def test_a_test_in_a_process_of_its_own_shows_its_lines(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from perfgate import progress\nprogress.INTERVAL_S = 0.0\n")
    pytester.makepyfile(
        test_alone="""
        import pytest

        @pytest.mark.isolate
        def test_alone(benchmark):
            benchmark.progress("step 1")
            benchmark.progress("step 2")
            benchmark(lambda: None)
        """
    )
    ran = pytester.runpytest_subprocess("--benchmark-disable")
    ran.assert_outcomes(passed=1)
    assert [line for line in ran.outlines if "step" in line] == [
        f"perfgate: test_alone.py::test_alone: step {number}" for number in (1, 2)
    ]
    assert not any("step" in line for line in pytester.runpytest_subprocess("--benchmark-disable", "-q").outlines)
