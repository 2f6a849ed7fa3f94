"""Does ``--perf-profile`` write what each case did, and leave figures and verdicts alone?"""

from __future__ import annotations

import csv
import gzip
import json

import pytest

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
#: Stands for torch's profiler, and writes down which calls it saw.
PRETENDED = """
from perfgate.profile import Operator, Profile
from perfgate.profile import case as profiled

class Recorded:
    def table(self, **how):
        return f"the table: {how}\\n"

    def export_chrome_trace(self, path):
        pathlib.Path(path).write_text("{}")

def pretended(call, *, warmed_up):
    if not warmed_up:
        call()
    result = call()
    with open(here / "profiled", "a") as file:
        file.write(f"{result} ")
    mm, t = Operator("aten::mm", 2, 2e-3, 3e-3, 0.0, 0.0, 64, 0), Operator("aten::t", 1, 1e-3, 1e-3, 0.0, 0.0, 0, 0)
    return Profile((mm, t), {}, {}, {}, (), 3e-3, 0.0, Recorded(), Recorded())

profiled.capture = pretended
"""
HEAD = "case,profiled_cpu_s,profiled_device_s,launches,kernels,operator_calls,operators,top_operator,trace\n"


def row(name: str) -> str:
    trace = f"test_speed/test_{name}.json.gz"
    return f"test_speed.py::test_{name},0.003000000,0.000000000,0,0,3,2,aten::mm,{trace}\n"


@pytest.fixture
def pretended(project):
    """A project with two cases and a profiler that is none."""
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + PRETENDED)
    project.cases("a", "b")
    for name in "ab":
        project.figures(name, STEADY)
    return project


def add(project, text: str) -> None:
    source = project.path / "test_speed.py"
    source.write_text(f"{source.read_text()}\n{text}")


def summary(project) -> str:
    return (project.path / "perf-profile" / "summary.csv").read_text()


def profiled(project) -> list[str]:
    file = project.path / "profiled"
    return file.read_text().split() if file.exists() else []


def test_a_plain_run_writes_a_trace_a_table_and_the_summary(pretended):
    add(
        pretended,
        "def test_plain(): pass\ndef test_failing(benchmark): benchmark(lambda: 'failing'); assert False\n",
    )
    result = pretended.run("--perf-profile", "--benchmark-disable")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["perfgate: 2 profiles in perf-profile"])
    result.stdout.no_fnmatch_line("*not profiled*")
    assert profiled(pretended) == ["a", "b"]
    assert not list(pretended.path.glob("*.taken")), "the gate measured"
    folder = pretended.path / "perf-profile"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert files == ["summary.csv", *(f"test_speed/test_{name}.{end}" for name in "ab" for end in ("json.gz", "txt"))]
    assert (folder / "test_speed" / "test_a.txt").read_text() == (
        "test_speed.py::test_a\n"
        "Times are those under the profiler, which slows a call down: they are not the time of the call.\n\n"
        "the table: {'sort_by': 'self_cpu_time_total', 'row_limit': 15}\n\n"
        "Nothing ran on a GPU.\n"
    )
    assert summary(pretended) == HEAD + row("a") + row("b")
    # A part of the cases: the summary is that run's, and the other files stay.
    pretended.run("--perf-profile", "-k", "test_b", "-q").stdout.no_fnmatch_line("perfgate: *")
    assert summary(pretended) == HEAD + row("b")
    assert (folder / "test_speed" / "test_a.txt").exists()


def test_figures_verdicts_and_the_processes_behind_them_are_those_of_a_run_without(pretended):
    pretended.store("a", "b")
    add(pretended, "def test_c(benchmark): benchmark(lambda: 'c')\n")
    pretended.figures("b", [2e-3])
    pretended.figures("c", STEADY)
    ini = "[pytest]\naddopts = -p benchmark -p perfgate -p no:cacheprovider\nperf_profile = perf-profile\n"
    pretended.pytester.makeini(ini)
    cases = pretended.json("--perf-processes=2", "--perf-update=new")["cases"]
    told = {case["id"][-1]: (case["verdict"], case["metrics"][0]["value"], case["processes"]) for case in cases}
    assert told["a"] == ("unchanged", 1e-3, 1)
    assert told["b"] == ("regressed", 2e-3, 2)
    # Once for its test; then one process confirmed b, and five recorded c.
    assert [(pretended.path / f"{name}.taken").read_text() for name in "abc"] == ["1", "2", "6"]
    assert profiled(pretended) == ["a", "b", "c"]
    assert summary(pretended) == HEAD + row("a") + row("b") + row("c")


def test_a_case_that_cannot_be_profiled_is_told_and_passes(pretended):
    stored = [*"abcd"]
    pretended.cases("a")
    add(
        pretended,
        "def test_b(benchmark):\n"
        "    benchmark(lambda: 'b')\n"
        "def test_c(benchmark):\n"
        "    def call():\n"
        "        if type(benchmark).__name__ == 'ProfiledBenchmark':\n"
        "            raise ValueError('no room\\nfor a trace')\n"
        "        return 'c'\n"
        "    benchmark(call)\n"
        "def test_d(benchmark):\n"
        "    def call():\n"
        "        if type(benchmark).__name__ == 'ProfiledBenchmark':\n"
        "            import os\n"
        "            os._exit(3)\n"
        "        return 'd'\n"
        "    benchmark(call)\n",
    )
    for name in stored:
        pretended.figures(name, STEADY)
    pretended.store(*stored)
    result = pretended.run("--benchmark-compare", "--perf-profile", "-W", "error")
    result.assert_outcomes(passed=4)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "perfgate: 2 profiles in perf-profile",
            "perfgate: not profiled: test_speed.py::test_c: failed: ValueError: no room",
            "perfgate: not profiled: test_speed.py::test_d: crashed: the process ended with exit code 3",
        ],
        consecutive=True,
    )
    assert summary(pretended) == HEAD + row("a") + row("b")


def test_a_process_that_cannot_start_and_a_folder_that_cannot_be_written_are_told(pretended):
    conftest = pretended.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + "import os\nif os.path.exists('ran'): raise SystemExit('not again')\n"
        + "def pytest_runtest_teardown(): open('ran', 'w').close()\n"
    )
    (pretended.path / "perf-profile" / "summary.csv").mkdir(parents=True)
    result = pretended.run("--perf-profile", "--benchmark-disable")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "perfgate: not profiled: a fresh process could not run test_speed.py::test_a and 1 more: "
            "it ended with exit code *",
            "perfgate: not profiled: summary.csv: IsADirectoryError: *",
        ]
    )


def test_a_run_that_stops_early_says_that_nothing_is_profiled(pretended):
    add(pretended, "def test_failing(): assert False\n")
    result = pretended.run("--perf-profile", "--benchmark-disable", "-x")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["perfgate: no profiles: the run stopped early"])
    assert profiled(pretended) == []


def test_isolated_cases_and_workers(pretended):
    add(pretended, "@pytest.mark.isolate\ndef test_c(benchmark): benchmark(lambda: 'c')\n")
    pretended.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
    result = pretended.run("--perf-profile", "--benchmark-disable", "-n", "2")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["perfgate: 3 profiles in perf-profile"])
    assert summary(pretended) == HEAD + row("a") + row("b") + row("c")
    assert sorted(profiled(pretended)) == ["a", "b", "c"]


def test_a_worker_that_dies_is_told(pretended):
    pretended.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
    add(pretended, "def test_end(): import os; os._exit(3)\n")
    result = pretended.run("--perf-profile", "--benchmark-disable", "-n", "1")
    result.stdout.fnmatch_lines(["perfgate: not profiled: worker gw0 ended early: its cases are not profiled"])


COUNTED = """
def count(name):
    with open(name, "a") as file:
        file.write("x")

def test_c(benchmark):
    count("before")
    benchmark.profile(lambda letter, *, times: letter * times, "c", times=3)
    benchmark.record("size", 1.0)
    count("after")
"""


def test_a_case_that_times_no_call_marks_what_is_profiled(pretended):
    add(pretended, COUNTED)
    result = pretended.run("--perf-profile", "--benchmark-compare", "-W", "ignore:Benchmark fixture was not used")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["perfgate: 3 profiles in perf-profile"])
    result.stdout.no_fnmatch_line("*not profiled*")
    assert profiled(pretended) == ["a", "b", "ccc"]
    assert summary(pretended) == HEAD + row("a") + row("b") + row("c")
    # The test ends where it is profiled.
    assert [(pretended.path / name).read_text() for name in ("before", "after")] == ["xx", "x"]


@pytest.mark.parametrize("gate", ["--benchmark-disable", "--benchmark-compare"])
def test_a_marked_call_is_not_made_in_a_run_without_profiles(pretended, gate):
    add(pretended, "def test_c(benchmark): benchmark.profile(lambda: 1 / 0)\n")
    pretended.run(gate).assert_outcomes(passed=3)


def test_of_several_calls_the_first_is_profiled(pretended):
    add(pretended, "def test_c(benchmark):\n    benchmark.profile(lambda: 'first')\n    benchmark(lambda: 'c')\n")
    pretended.figures("c", STEADY)
    pretended.run("--perf-profile", "-k", "test_c").assert_outcomes(passed=1)
    assert profiled(pretended) == ["first"]


def test_a_case_without_a_call_is_told_and_not_run_again(pretended):
    add(
        pretended,
        "def count():\n"
        "    with open('runs', 'a') as file: file.write('x')\n"
        "def test_c(benchmark): count()\n"
        "@pytest.mark.isolate\n"
        "def test_d(benchmark): pass\n"
        "def test_plain(): pass\n",
    )
    result = pretended.run("--perf-profile", "--benchmark-disable")
    result.assert_outcomes(passed=5)
    told = [line for line in result.outlines if "profile" in line and line.startswith("perfgate: ")]
    assert told == [
        "perfgate: 2 profiles in perf-profile",
        "perfgate: not profiled: test_speed.py::test_c times no call, and marks none with benchmark.profile(...)",
        "perfgate: not profiled: test_speed.py::test_d times no call, and marks none with benchmark.profile(...)",
    ]
    assert (pretended.path / "runs").read_text() == "x"
    assert summary(pretended) == HEAD + row("a") + row("b")


def test_a_pedantic_case_has_a_setup_for_each_round(pretended):
    pretended.pytester.makepyfile(
        test_speed="""
        def test_a(benchmark):
            def note(event):
                with open("events", "a") as file:
                    file.write(event + " ")

            def setup():
                note("setup")
                return ("a",), {"times": 1}

            def call(text, times):
                note("call")
                return text * times

            assert benchmark.pedantic(call, setup=setup, teardown=lambda *_, **__: note("teardown")) == "a"
            note("end")

        def test_b(benchmark):
            assert benchmark.pedantic(str, args=(b"b",), kwargs={"encoding": "ascii"}) == "b"
        """
    )
    pretended.run("--perf-profile").assert_outcomes(passed=2)
    assert profiled(pretended) == ["a", "b"]
    one_round = "setup call teardown "
    assert (pretended.path / "events").read_text() == f"{one_round}end {one_round}{one_round}"


def test_collecting_does_not_import_torch(pretended):
    conftest = pretended.path / "conftest.py"
    check = "import sys\ndef pytest_unconfigure(): print('torch imported:', 'torch' in sys.modules)\n"
    conftest.write_text(conftest.read_text() + check)
    result = pretended.run("--perf-profile", "--collect-only")
    result.stdout.fnmatch_lines(["torch imported: False"])
    assert not (pretended.path / "perf-profile").exists()


def test_with_torch_itself(pytester, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        test_mlp="""
        import pytest, torch

        @pytest.mark.parametrize("path", ["a/b"])
        def test_mlp(benchmark, path):
            model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
            kept = []
            with torch.no_grad():
                benchmark(lambda: kept.append(torch.autograd._profiler_enabled()) or model(torch.ones(5, 8)))
            assert not any(kept), "the test sees a call that was profiled"
        """
    )
    flags = ("-p", "benchmark", "-p", "perfgate", "-p", "no:cacheprovider", "--benchmark-disable", "--perf-profile")
    result = pytester.runpytest_inprocess(*flags)
    result.assert_outcomes(passed=1)
    folder = pytester.path / "perf-profile"
    (line,) = csv.DictReader((folder / "summary.csv").open())
    assert line["case"] == "test_mlp.py::test_mlp[a/b]"
    assert (line["launches"], line["kernels"]) == ("0", "0")
    assert line["trace"] == "test_mlp/test_mlp[a-b]-62f3010f.json.gz"
    events = json.loads(gzip.decompress((folder / line["trace"]).read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "cpu_op"]
    assert names.count("aten::addmm") == 2
    # The call ran in the context that it was measured in: nothing was kept for a backward pass.
    table = (folder / line["trace"].replace(".json.gz", ".txt")).read_text()
    (addmm,) = [each.split() for each in table.splitlines() if each.split()[:1] == ["aten::addmm"]]
    assert addmm[-1] == "2"
    assert int(line["operator_calls"]) == len([name for name in names if name != "[memory]"])
