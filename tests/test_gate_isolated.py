"""Is an isolated case measured by the gate where the gate is on, and nowhere else?"""

from __future__ import annotations

import json

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


DEATHS = """
import os, pytest

@pytest.mark.isolate
@pytest.mark.xfail(reason="known to die")
def test_dies(): os.abort()

@pytest.mark.isolate
@pytest.mark.xfail(reason="known to fail")
def test_fails(): assert False

@pytest.mark.isolate
@pytest.mark.xfail(False, reason="not here")
def test_dies_unexpectedly(): os.abort()

@pytest.mark.isolate
@pytest.mark.xfail(raises=ValueError, reason="another way")
def test_dies_otherwise(): os.abort()

@pytest.mark.isolate
@pytest.mark.xfail(reason="hangs")
@pytest.mark.isolate(timeout=2)
def test_hangs(): import time; time.sleep(60)
"""


def test_a_death_is_an_expected_failure_where_a_failure_would_be(project):
    project.pytester.makepyfile(test_deaths=DEATHS)
    result = project.run("-rxf")
    result.assert_outcomes(xfailed=3, failed=2)
    result.stdout.fnmatch_lines(
        [
            "XFAIL test_deaths.py::test_dies - known to die",
            "XFAIL test_deaths.py::test_fails - known to fail",
            "XFAIL test_deaths.py::test_hangs - hangs",
            "FAILED test_deaths.py::test_dies_unexpectedly - crashed: killed by SIGABRT (s*",
            "FAILED test_deaths.py::test_dies_otherwise - crashed: killed by SIGABRT (s*",
        ]
    )
    project.run("--runxfail", "-k", "test_dies and not otherwise").assert_outcomes(failed=2)


def test_the_gate_takes_an_expected_death_as_an_expected_failure(project):
    project.pytester.makepyfile(
        test_speed="""
        import os, pytest

        @pytest.mark.isolate
        @pytest.mark.xfail(reason="known to die")
        def test_a(benchmark): os.abort()
        """
    )
    (case,) = project.json()["cases"]
    assert (case["verdict"], case["outcome"], case["reason"]) == (
        "skipped",
        "skipped",
        "killed by SIGABRT (signal 6)",
    )


def test_pytest_benchmark_shows_and_stores_an_isolated_case(counted):
    source = counted.path / "test_speed.py"
    source.write_text(
        source.read_text()
        + "\n@pytest.mark.isolate\n@pytest.mark.benchmark(group='g')\ndef test_b(benchmark):\n"
        + "    benchmark.extra_info['path'] = pytest\n    benchmark.pedantic(int, rounds=4, iterations=5)\n"
        + "\ndef test_c(benchmark):\n    benchmark.pedantic(int, rounds=4, iterations=5)\n"
    )
    flags = ("--benchmark-json=benchmark.json", "--benchmark-min-rounds=7", "--benchmark-max-time=0")
    result = counted.run(*flags)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*benchmark 'g': 1 tests*", "test_b *"])
    found = {each["name"]: each for each in json.loads((counted.path / "benchmark.json").read_text())["benchmarks"]}
    assert list(found) == ["test_a", "test_b", "test_c"]
    assert (found["test_a"]["fullname"], found["test_a"]["group"]) == ("test_speed.py::test_a", None)
    assert found["test_a"]["stats"]["rounds"] >= 7
    alone, here = found["test_b"], found["test_c"]
    assert alone["group"] == "g"
    assert alone["extra_info"]["path"].startswith("<module 'pytest'")
    assert (alone["stats"]["rounds"], alone["stats"]["iterations"]) == (4, 5)
    assert 0.01 < alone["stats"]["median"] / here["stats"]["median"] < 100, "seconds of one call in both"
    assert alone["options"] == here["options"]


def test_with_the_gate_on_an_isolated_case_is_stored_too(counted):
    counted.run("--benchmark-compare", "--benchmark-json=benchmark.json").assert_outcomes(passed=1)
    (found,) = json.loads((counted.path / "benchmark.json").read_text())["benchmarks"]
    assert (found["name"], found["stats"]["data"]) == ("test_a", [1e-3] * 3)
