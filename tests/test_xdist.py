"""Does each worker get a GPU of its own, does only the controller write, and is what cannot be timed refused?"""

from __future__ import annotations

import json

import pytest

from perfgate.errors import SettingError
from perfgate.xdist import assign

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
ENVIRONMENT = {"python": "3.12.3", "torch": "2.11.0", "driver": "580.1"}
# xdist 3.8 appends the group to an attribute that pytest 9.2 no longer reads (pytest-xdist#1386).
SUFFIX = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid != getattr(item, "_nodeid", item.nodeid):
            item._id = type(item._id).parse(item._nodeid)
"""


@pytest.fixture
def two_gpus(project):
    """A project on a machine with two GPUs and xdist."""
    project.gpus(2)
    project.script["environments"]["cuda"] = ENVIRONMENT
    project.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
    note = "import os; open('gpu.{name}', 'a').write(os.environ.get('CUDA_VISIBLE_DEVICES', '-'))"
    body = note + "; benchmark(lambda: {name!r})"
    project.cases(*"abcd", body=body, head="@pytest.mark.cuda")
    for name in "abcd":
        project.figures(name, STEADY)
    return project


def test_each_worker_has_a_gpu_of_its_own(two_gpus):
    two_gpus.store(*"abcd", key="nvidia-h200")
    result = two_gpus.run("-n", "2", "--benchmark-compare")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*4 unchanged on nvidia-h200*"])
    seen = {(two_gpus.path / f"gpu.{name}").read_text() for name in "abcd"}
    assert seen == {"0", "1"}


def test_visible_gpus_are_handed_out_by_their_names():
    assert assign(2, "cuda", 2, None) == ["0", "1"]
    assert assign(2, "cuda", 3, "5, GPU-8f,2") == ["5", "GPU-8f"]


def test_more_workers_than_gpus_is_a_usage_error(two_gpus):
    result = two_gpus.run("-n", "3", "--benchmark-compare")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: -n 3: more workers than GPUs (2 cuda)", "*", "hint: -n 2"])
    with pytest.raises(SettingError, match=r"-n 3: more workers than GPUs \(2 rocm\)"):
        assign(3, "rocm", 2, None)


def test_a_slow_down_is_confirmed_on_the_workers_own_gpu_and_fails_its_test(two_gpus):
    two_gpus.store(*"abcd", key="nvidia-h200")
    for name in "bd":
        two_gpus.figures(name, [2e-3])
    result = two_gpus.run("-n", "2", "--benchmark-compare", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "FAILED test_speed.py::test_b - performance regressed: wall_time*",
            "FAILED test_speed.py::test_d - performance regressed: wall_time*",
        ]
    )
    for name in "bd":
        gpus = (two_gpus.path / f"gpu.{name}").read_text()
        assert len(gpus) == 8
        assert len(set(gpus)) == 1


def test_the_controller_records_what_workers_measured(two_gpus):
    two_gpus.run("-n", "2", "--perf-update=new").assert_outcomes(passed=4)
    two_gpus.run("-n", "2", "--benchmark-compare", "--perf-json=run.json").assert_outcomes(passed=4)
    text = two_gpus.baseline_file("nvidia-h200").read_text()
    assert text.count('"test_') == 4
    # The same baselines serve a run without workers.
    two_gpus.run("-n", "0", "--benchmark-compare").stdout.fnmatch_lines(["*4 unchanged on nvidia-h200*"])


def test_removed_cases_are_found_under_workers(two_gpus):
    two_gpus.figures("gone", STEADY)
    two_gpus.store(*"abcd", "gone", key="nvidia-h200")
    two_gpus.run("-n", "2", "--benchmark-compare").stdout.fnmatch_lines(["*1 removed*"])


def test_timed_cpu_cases_under_workers_are_a_usage_error(two_gpus):
    source = two_gpus.path / "test_speed.py"
    source.write_text(source.read_text() + "\ndef test_cpu(benchmark): benchmark(lambda: 'a')\n")
    result = two_gpus.run("-n", "2", "--benchmark-compare")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: -n: cases on a CPU cannot be timed side by side: test_speed.py::test_cpu runs on the CPU",
            "Workers on one CPU slow each other down, and every verdict with it.",
            "hint: leave -n out, or select GPU cases: -m cuda",
        ],
        consecutive=True,
    )
    two_gpus.store(*"abcd", key="nvidia-h200")
    two_gpus.run("-n", "2", "--benchmark-compare", "-m", "cuda").assert_outcomes(passed=4)


def test_timed_cases_on_workers_without_a_gpu_are_a_usage_error(project):
    project.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
    project.cases("a")
    result = project.run("-n", "2", "--benchmark-compare")
    assert result.ret == 4
    told = "ERROR: -n: cases on a CPU cannot be timed side by side: test_speed.py::test_a runs on the CPU"
    result.stderr.fnmatch_lines([told])
    # With the gate off xdist is none of our business.
    project.figures("a", STEADY)
    project.run("-n", "2").assert_outcomes(passed=1)


def test_a_worker_that_dies_while_recording_is_a_problem(two_gpus):
    source = two_gpus.path / "test_speed.py"
    source.write_text(source.read_text() + "\n@pytest.mark.cuda\ndef test_end(benchmark): import os; os._exit(3)\n")
    result = two_gpus.run("-n", "1", "--perf-update=all")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*worker gw0 ended early: cases it held to confirm or to record have no result*"])


def test_isolated_tests_run_under_workers(two_gpus):
    two_gpus.pytester.makepyfile(
        test_iso="import ctypes, pytest\n@pytest.mark.isolate\ndef test_segfault(): ctypes.string_at(0)\n"
    )
    result = two_gpus.run("-n", "2", "test_iso.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED test_iso.py::test_segfault - crashed: killed by SIGSEGV (signal 11)*"])


@pytest.fixture
def groups(two_gpus):
    """The same cases in two groups of ``--dist loadgroup``, and one test in none."""
    conftest = two_gpus.path / "conftest.py"
    conftest.write_text(conftest.read_text() + SUFFIX)
    source = two_gpus.path / "test_speed.py"
    text = source.read_text()
    for name, group in zip("abcd", ("one", "two", "one", "two"), strict=True):
        text = text.replace(f"def test_{name}", f'@pytest.mark.xdist_group("{group}")\ndef test_{name}')
    source.write_text(text + "\ndef test_alone(): pass\n")
    return two_gpus


def test_a_group_is_no_part_of_a_cases_name(groups):
    result = groups.run("-n", "2", "--dist", "loadgroup", "--perf-update=new")
    result.assert_outcomes(passed=5)
    assert sorted(json.loads(groups.baseline_file("nvidia-h200").read_text())["cases"]) == [
        f"test_{name}" for name in "abcd"
    ]
    for flags in (("-n", "2", "--dist", "loadgroup"), ("-n", "0")):
        verdicts = {case["id"]: case["verdict"] for case in groups.json(*flags)["cases"]}
        assert verdicts == {f"test_speed.py::test_{name}": "unchanged" for name in "abcd"}
    # One without a baseline was recorded, and is not recorded again under its other name.
    again = groups.run("-n", "2", "--dist", "loadgroup", "--perf-update=new")
    again.stdout.fnmatch_lines(["*recorded no case, 4 left as before*"])


def test_a_slow_down_in_a_group_is_confirmed_and_fails_its_test(groups):
    groups.figures("gone", STEADY)
    groups.store(*"abcd", "gone", key="nvidia-h200")
    groups.figures("b", [2e-3])
    run, result = groups.compare("-n", "2", "--dist", "loadgroup", "--perf-processes=4")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "hint: if the change is intended, record it: pytest --perf-update=all test_speed.py::test_b",
            "FAILED test_speed.py::test_b@two - performance regressed: wall_time*",
        ]
    )
    verdicts = {case["id"]: case["verdict"] for case in run["cases"]}
    expected = {"a": "unchanged", "b": "regressed", "c": "unchanged", "d": "unchanged", "gone": "removed"}
    assert verdicts == {f"test_speed.py::test_{name}": verdict for name, verdict in expected.items()}
    gpus = (groups.path / "gpu.b").read_text()
    assert (len(gpus), len(set(gpus))) == (4, 1)


def test_wrong_use_in_a_group_is_named_by_the_cases_own_name(groups):
    source = groups.path / "test_speed.py"
    source.write_text(source.read_text().replace("benchmark(lambda: 'a')", "benchmark.work(bytes=-1)"))
    result = groups.run("-n", "2", "--dist", "loadgroup", "--benchmark-compare", "-k", "test_a")
    result.stdout.fnmatch_lines(
        [
            "E * test_speed.py::test_a: benchmark.work(bytes=-1): not a positive number",
            "E * hint: state the work of one call, or leave it out",
        ]
    )


def test_a_timed_cpu_case_in_a_group_is_named_by_its_own_name(groups):
    source = groups.path / "test_speed.py"
    text = "\n@pytest.mark.xdist_group('one')\ndef test_cpu(benchmark): benchmark(lambda: 'a')\n"
    source.write_text(source.read_text() + text)
    result = groups.run("-n", "2", "--dist", "loadgroup", "--benchmark-compare")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: -n: cases on a CPU cannot be timed side by side: test_speed.py::test_cpu runs on the CPU"]
    )


def test_isolated_tests_run_in_groups(groups):
    groups.pytester.makepyfile(
        test_iso="""
        import ctypes, pytest
        pytestmark = [pytest.mark.isolate, pytest.mark.xdist_group("one")]
        def test_fine(): pass
        def test_segfault(): ctypes.string_at(0)
        @pytest.mark.cuda
        def test_case(benchmark): benchmark(lambda: 'a')
        """
    )
    for flags in ((), ("--benchmark-compare",)):
        result = groups.run("-n", "2", "--dist", "loadgroup", "-rA", *flags, "test_iso.py")
        result.assert_outcomes(passed=2, failed=1)
        result.stdout.fnmatch_lines_random(
            [
                "PASSED test_iso.py::test_fine@one",
                "PASSED test_iso.py::test_case@one",
                "FAILED test_iso.py::test_segfault@one - crashed: killed by SIGSEGV (signal 11)*",
            ]
        )
