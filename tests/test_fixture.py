"""What can a test do with ``benchmark``, and is wrong use named?"""

from __future__ import annotations

import json

import pytest

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]


@pytest.fixture
def steady(project):
    """A project with one case, ``a``, its figures, and no baseline."""
    project.figures("a", STEADY)
    return project


def body(project, text: str) -> None:
    project.cases("a", body=text)


def test_the_result_of_the_timed_call_comes_back(steady):
    body(steady, "assert benchmark(lambda: {name!r}) == 'a'")
    steady.run("--benchmark-compare").assert_outcomes(passed=1)


def test_a_reported_figure_is_shown_and_kept_and_never_judged(steady):
    body(steady, "benchmark.report('load_time', 1.5, unit='s'); benchmark(lambda: {name!r})")
    steady.run("--perf-update=all").assert_outcomes(passed=1)
    assert "load_time" not in steady.baseline_file().read_text()
    body(steady, "benchmark.report('load_time', 150, unit='s'); benchmark(lambda: {name!r})")
    run, result = steady.compare("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*reported: load_time 150*s"])
    case = run["cases"][0]
    assert case["reported"] == [{"name": "load_time", "unit": "s", "value": 150.0}]
    assert [metric["name"] for metric in case["metrics"]] == ["wall_time", "memory"]


def test_figures_reported_before_a_test_failed_are_kept(steady):
    body(steady, "benchmark.report('accuracy', 0.1); benchmark(lambda: {name!r}); assert False")
    case = steady.json()["cases"][0]
    assert (case["outcome"], case["metrics"]) == ("failed", [])
    assert case["reported"] == [{"name": "accuracy", "unit": "1", "value": 0.1}]


@pytest.mark.parametrize("ending", ["", "; assert False"])
def test_an_attached_file_is_in_the_runs_file_and_on_its_page(steady, ending):
    """Also of a case that runs in a process of its own, and of one that failed."""
    steady.cases(
        "a",
        body="benchmark.attach('report.md', '# <b>'); benchmark.attach('a.json', chr(0xd800)); "
        "benchmark(lambda: {name!r})" + ending,
        head="@pytest.mark.isolate",
    )
    steady.run("--benchmark-compare", "--perf-json=run.json", "--perf-html=report.html")
    (case,) = json.loads((steady.path / "run.json").read_text())["cases"]
    assert case["attached"] == {"report.md": "# <b>", "a.json": "?"}
    page = (steady.path / "report.html").read_text()
    assert 'download="report.md">report.md</a>' in page
    assert "<b>" not in page


def test_a_note_of_the_test_stands_beside_those_of_the_call(steady):
    body(
        steady,
        "from perfgate.measure.notes import note; benchmark.note('backend', 'flash'); "
        "benchmark(lambda: note('rows', 'tuned') or {name!r}); benchmark.note('cache', 'static')",
    )
    assert steady.json()["cases"][0]["notes"] == {"backend": "flash", "cache": "static", "rows": "tuned"}


def test_the_clock_of_a_cpu_case_leaves_waiting_for_a_core_out(steady):
    body(
        steady,
        "import time; from perfgate.measure import cpu_conditions; "
        "waited = iter([0.0, 40.0]); cpu_conditions.QueueWait.__call__ = lambda self: next(waited); "
        "begin, start = time.perf_counter(), benchmark.clock(); "
        "assert -40 <= benchmark.clock() - start <= time.perf_counter() - begin - 40; benchmark(lambda: {name!r})",
    )
    steady.run("--benchmark-compare").assert_outcomes(passed=1)


def test_the_device_clock_is_no_clock_of_pedantic(steady):
    steady.cases("a", body="benchmark.pedantic(lambda: {name!r})", head="@pytest.mark.perf(clock='device')")
    result = steady.run("--benchmark-compare")
    result.assert_outcomes(failed=1)
    name = "test_speed.py::test_a"
    result.stdout.fnmatch_lines(
        [
            f"*{name}: perf marker: clock='device' cannot time benchmark.pedantic(...)",
            "*Its rounds are timed on the wall clock, as the test asks for them.",
            "*hint: call benchmark(function, ...), or leave clock out",
        ]
    )


def test_work_becomes_throughput_in_the_verbose_report(steady):
    body(steady, "benchmark.work(bytes=3_000_000, flops=2e9); benchmark(lambda: {name!r})")
    steady.store("a", key="cpu-pretended-2t")
    run, result = steady.compare("-v")
    result.stdout.fnmatch_lines(["*3.00 GB/s*2.00 TFLOP/s*"])
    case = run["cases"][0]
    assert case["work"] == {"bytes": 3_000_000, "flops": 2e9}
    assert case["copy_bandwidth"] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "benchmark.work(bytes=-1)",
            "benchmark.work(bytes=-1): not a positive number\nhint: state the work of one call, or leave it out",
        ),
        (
            "benchmark.record('memory', 1)",
            "benchmark.record('memory'): this name cannot be used\n"
            "hint: a new identifier, none of device_time, wall_time, memory",
        ),
        (
            "benchmark.record('error', 1); benchmark.record('error', 2)",
            "benchmark.record('error'): this name cannot be used\n"
            "hint: a new identifier, none of device_time, wall_time, memory",
        ),
        (
            "benchmark.record('error', 1); benchmark.report('error', 2)",
            "benchmark.report('error'): this name cannot be used\n"
            "hint: a new identifier, none of device_time, wall_time, memory",
        ),
        (
            "benchmark.report('error', float('inf'))",
            "benchmark.report('error'): the value is inf\n"
            "A figure that is not a number cannot be compared, and would pass unnoticed.\n"
            "hint: find out where it comes from, or leave it out for this case",
        ),
        (
            "benchmark.record('error', float('nan'))",
            "benchmark.record('error'): the value is nan\n"
            "A figure that is not a number cannot be compared, and would pass unnoticed.\n"
            "hint: find out where it comes from, or leave it out for this case",
        ),
        (
            "benchmark.record('error', 1, better='bigger')",
            "benchmark.record('error'): better='bigger' is neither 'lower' nor 'higher'",
        ),
        *(
            (
                f"benchmark.attach('a.md', ''); benchmark.attach({name!r}, '')",
                f"benchmark.attach({name!r}): this name cannot be used\n"
                "hint: a new name of letters, digits, '_', '-' and '.', such as report.md",
            )
            for name in ("a.md", "", ".a", "../a.md", "a/b", "<b>", "a\n", "a" * 101)
        ),
        (
            "benchmark.attach('b.md', 'x'); benchmark.attach('a.md', 'é' * 2_000_000)",
            "benchmark.attach('a.md'): the files of this case would take 4000001 bytes\n"
            "They would stand in the run's file and on its page.\n"
            "hint: at most 4000000 bytes: write it to a file of your own, and report what matters in it",
        ),
        *(
            (
                f"benchmark.attach({name}, {text})",
                f"benchmark.attach({name}): name and content of a file are text\n"
                "hint: decode bytes before: data.decode()",
            )
            for name, text in (("'a.bin'", "b'1'"), ("3", "'1'"))
        ),
    ],
)
def test_wrong_use_is_named(pytester, forked, call, message):
    pytester.makepyfile(
        f"""
        def test_it(benchmark):
            try:
                {call}
            except Exception as error:
                assert type(error).__name__ == "SettingError"
                assert str(error) == "test_wrong_use_is_named.py::test_it: " + {message!r}
                benchmark(int)
            else:
                raise AssertionError("nothing was raised")
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "--benchmark-disable").assert_outcomes(passed=1)


def test_a_limit_that_is_no_limit_is_named(pytester, forked):
    pytester.makepyfile("def test_it(benchmark): benchmark.record('error', 1, limit='ten')")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["E * test_*::test_it: benchmark.record('error'): *'ten'*"])


def test_using_the_fixture_twice_is_pytest_benchmarks_own_error(steady):
    body(steady, "benchmark(lambda: {name!r}); benchmark(lambda: {name!r})")
    result = steady.run("--benchmark-compare")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*FixtureAlreadyUsed: Fixture can only be used once. Previously it was used in benchmark(...) mode*"]
    )


def test_samples_reach_pytest_benchmarks_table_and_file(steady):
    body(steady, "benchmark(lambda: {name!r})")
    result = steady.run("--benchmark-compare", "--benchmark-verbose", "--benchmark-json=bench.json")
    result.stdout.fnmatch_lines(["Name (time in ms)*", "test_a*1.0000*"])
    data = json.loads((steady.path / "bench.json").read_text())
    assert data["benchmarks"][0]["stats"]["data"] == [0.001] * 3


def test_pytest_benchmarks_table_stays_away_from_a_gated_run(steady):
    body(steady, "benchmark(lambda: {name!r})")
    steady.run("--benchmark-compare").stdout.no_fnmatch_line("*Name (time in*")


def test_pytest_benchmarks_own_comparison_stays_where_it_has_files(steady):
    body(steady, "benchmark(lambda: 'a')")
    steady.run("--benchmark-autosave")
    result = steady.run("--benchmark-compare")
    result.stdout.fnmatch_lines_random(["*test_a (0001*", "*test_a (NOW)*", "*1 new*"])


def test_pedantic_rounds_are_judged_by_their_median(pytester):
    pytester.makepyfile(
        """
        import statistics, time
        def test_it(benchmark):
            assert benchmark.pedantic(time.sleep, args=(0.002,), rounds=5, iterations=2) is None
            assert len(benchmark.stats.stats.data) == 5
            benchmark.report("median", statistics.median(benchmark.stats.stats.data), unit="s")
        """
    )
    pytester.runpytest_subprocess("--benchmark-compare", "--perf-json=run.json").assert_outcomes(passed=1)
    case = json.loads((pytester.path / "run.json").read_text())["cases"][0]
    assert case["method"]["clock"] == "pedantic"
    assert [metric["name"] for metric in case["metrics"]] == ["wall_time"]
    # On a busy machine a sleep may take any time longer than it was asked for.
    assert case["metrics"][0]["value"] == case["reported"][0]["value"] >= 0.002


def test_a_case_that_times_nothing_is_not_a_pass(steady):
    body(steady, "pass")
    case = steady.json()["cases"][0]
    assert (case["verdict"], case["reason"]) == ("skipped", "nothing was measured")


def test_the_device_clock_on_a_cpu_is_named(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(clock="device")
        def test_it(benchmark): benchmark(int)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(
        [
            "*perf marker: clock='device' needs a GPU, and this case runs on *",
            "*hint: mark the case cuda, rocm or sm80, or take clock='wall'",
        ]
    )


def test_benchmark_skip_and_only_work_as_before(steady):
    body(steady, "benchmark(lambda: {name!r})")
    source = steady.path / "test_speed.py"
    source.write_text(source.read_text() + "\ndef test_plain(): pass\n")
    steady.run("--benchmark-skip").assert_outcomes(passed=1, skipped=1)
    steady.run("--benchmark-only").assert_outcomes(passed=1, skipped=1)


def test_a_case_that_hides_from_the_gate_is_named(steady):
    steady.pytester.makepyfile(
        test_speed="def test_a(request): assert request.getfixturevalue('benchmark')(lambda: 'a') == 'a'"
    )
    result = steady.run("--benchmark-compare")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * test_speed.py::test_a: getfixturevalue('benchmark') hides the case from the gate",
            "E * What it measures would pass unjudged.",
            "E * hint: make benchmark an argument of the test",
        ],
        consecutive=True,
    )
    # With the gate off it is pytest-benchmark's business.
    steady.run().assert_outcomes(passed=1)
