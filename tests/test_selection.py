"""Does a marker that cannot be used, or a name that leads to another test, stop what it concerns and nothing else?"""

from __future__ import annotations

import pytest

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
FOREIGN = """
import pytest

@pytest.mark.perf("latency")
def test_perf(): pass

@pytest.mark.cuda("11.8")
def test_cuda(): pass

@pytest.mark.vram("much")
def test_vram(): pass

def test_plain(): pass
"""


def test_markers_of_a_suite_that_knows_no_gate_are_its_own(project):
    project.pytester.makepyfile(test_foreign=FOREIGN)
    project.run().assert_outcomes(passed=4)


def test_with_the_gate_on_a_marker_of_the_gate_that_cannot_be_used_is_its_test_s_error(project):
    project.pytester.makepyfile(test_foreign=FOREIGN)
    result = project.run("--benchmark-compare")
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(
        [
            "E * marker cuda cannot be used as cuda('11.8')",
            "E * It takes no arguments.",
            "E * hint: write @pytest.mark.cuda",
            "E * marker vram cannot be used as vram('much')",
            "E * It takes one positive number of GiB.",
            "E * hint: write @pytest.mark.vram(24)",
        ]
    )


@pytest.mark.parametrize("flags", [(), ("--benchmark-compare",)])
def test_a_benchmark_with_a_marker_that_cannot_be_used_is_an_error_and_others_run(project, flags):
    project.figures("a", STEADY)
    project.pytester.makepyfile(
        test_speed="""
        import pytest

        @pytest.mark.perf("latency")
        def test_bad(benchmark): benchmark(lambda: "a")

        @pytest.mark.isolate(timeout="long")
        def test_alone(): pass

        def test_good(benchmark): benchmark(lambda: "a")
        """
    )
    result = project.run(*flags)
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "E * test_speed.py::test_bad: perf marker: takes no positional arguments",
            'E * hint: write @pytest.mark.perf(time="2%")',
            "E * marker isolate cannot be used as isolate(timeout='long')",
            "E * It takes timeout=, a positive number of seconds, and group=, a name; both may be left out.",
            "E * hint: write @pytest.mark.isolate(timeout=60)",
        ]
    )


@pytest.fixture
def projects(project, monkeypatch):
    """Two projects of which each has a test of the same name."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p benchmark -p perfgate -p no:cacheprovider")
    (project.path / "tox.ini").unlink()
    for name in ("pa", "pb"):
        (project.path / name / "tests").mkdir(parents=True)
        (project.path / name / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    project.figures("a", STEADY)
    return project


def test_two_projects_in_one_run_are_refused(projects):
    for name in ("pa", "pb"):
        (projects.path / name / "tests" / "test_z.py").write_text("def test_z(benchmark): benchmark(lambda: 'a')\n")
    projects.run("pa", "pb").assert_outcomes(passed=2)
    result = projects.run("--benchmark-compare", "pa", "pb")
    assert result.ret == 4
    lines = result.stderr.str().splitlines()
    path, root = projects.path / "pb/tests/test_z.py", projects.path / "pa"
    assert lines[:3] == [
        f"ERROR: {path}: pytest calls its test tests/test_z.py::test_z, as if it were {root}/tests/test_z.py",
        "Baselines and fresh processes know a test by that name alone, and would take another one.",
        f"hint: run pytest once for each project: not everything given is in {root}",
    ]
    assert not list(projects.path.glob("*.taken"))
    projects.run("--benchmark-compare", "pb").assert_outcomes(passed=1)


def test_an_isolated_test_of_a_second_project_is_not_taken_for_that_of_the_first(projects):
    for name, body in (("pa", "pass"), ("pb", "assert False, 'the second one'")):
        (projects.path / name / "tests" / "test_z.py").write_text(
            f"import pytest\n@pytest.mark.isolate\ndef test_z(): {body}\n"
        )
    result = projects.run("pa", "pb")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E * Baselines and fresh processes know a test by that name alone, and would take*"])
