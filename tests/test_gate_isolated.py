"""Is an isolated case measured by the gate where the gate is on, and nowhere else?"""

from __future__ import annotations

import pytest

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
# Each call of the timed function leaves a mark.
CALLS = """
import pytest

@pytest.mark.isolate
def test_a(benchmark):
    def call():
        with open("calls", "a") as file:
            file.write("x")
        return "a"
    assert benchmark(call) == "a"
"""


@pytest.fixture
def counted(project):
    """A project with one isolated case that counts its calls."""
    project.figures("a", STEADY)
    project.pytester.makepyfile(test_speed=CALLS)
    return project


def calls(project) -> int:
    return len((project.path / "calls").read_text())


def test_with_the_gate_on_an_isolated_case_is_measured_by_it(counted):
    result = counted.run("--benchmark-compare")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*1 new on cpu-pretended-2t*"])
    assert (counted.path / "a.taken").read_text() == "1"
    assert calls(counted) == 1


def test_with_the_gate_off_an_isolated_case_is_pytest_benchmarks(counted):
    counted.run("--benchmark-min-rounds=7", "--benchmark-max-time=0").assert_outcomes(passed=1)
    assert not (counted.path / "a.taken").exists(), "the gate's clock was asked"
    assert calls(counted) >= 7


@pytest.mark.parametrize("flags", [("--benchmark-disable",), ("--benchmark-disable", "-n", "1")])
def test_a_disabled_benchmark_is_called_once_in_isolation_too(counted, flags):
    if "-n" in flags:
        counted.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
    result = counted.run(*flags)
    result.assert_outcomes(passed=1)
    assert not (counted.path / "a.taken").exists()
    assert calls(counted) == 1


def test_with_the_gate_off_an_isolated_test_may_ask_for_the_fixture(project):
    project.figures("a", STEADY)
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.isolate
        def test_a(request):
            assert request.getfixturevalue("benchmark")(lambda: "a") == "a"
        """
    )
    project.run().assert_outcomes(passed=1)
    result = project.run("--benchmark-compare")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * test_*.py::test_a: getfixturevalue('benchmark') hides the case from the gate"])
