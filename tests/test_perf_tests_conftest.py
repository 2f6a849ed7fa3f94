"""What do all cases share? Long ones wait for time, options are checked, and what is loaded is set aside."""

from __future__ import annotations

import gc
import shutil
import sys
import types
from pathlib import Path

import pytest

from perfgate.measure import cpu_memory

CONFTEST = Path(__file__).resolve().parents[1] / "perf_tests" / "conftest.py"
CASES = """
import pytest

@pytest.mark.slow
def test_long(slow_budget_s):
    assert slow_budget_s == 90.0

def test_weights(model_path):
    print(f"path: {model_path}")
"""
SET_ASIDE = """
import gc
import pytest
from perfgate.measure.cpu_memory import IMMORTAL

@pytest.mark.parametrize("number", [1, 2])
def test_case(number):
    print(f"case {number}: {gc.get_freeze_count() > IMMORTAL}")
"""


@pytest.fixture
def cases(pytester: pytest.Pytester) -> pytest.Pytester:
    shutil.copy(CONFTEST, pytester.path)
    pytester.makepyfile(CASES)
    return pytester


def test_a_long_case_is_skipped_with_the_option_that_runs_it(cases: pytest.Pytester) -> None:
    ran = cases.runpytest("-rs", "--strict-markers")
    ran.assert_outcomes(passed=1, skipped=1)
    ran.stdout.fnmatch_lines(["SKIPPED*slow: give it time with --slow-budget=SECONDS"])


def test_a_long_case_runs_when_it_has_time(cases: pytest.Pytester) -> None:
    cases.runpytest("--slow-budget=90").assert_outcomes(passed=2)


@pytest.mark.parametrize("gate", ["--benchmark-compare", "--benchmark-disable"])
def test_a_case_that_swallows_its_exception_fails(cases: pytest.Pytester, gate: str) -> None:
    """The published run went on after a NotImplementedError, and said that it was done."""
    cases.makepyfile(
        """
        import pytest

        def swallow(call):
            try:
                call()
            except NotImplementedError:
                print("Done")

        def unsupported():
            raise NotImplementedError

        @pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
        def test_swallows(benchmark):
            swallow(lambda: benchmark.report("error", unsupported()))

        def test_swallows_before(benchmark):
            swallow(unsupported)

        def test_swallows_while_measured(benchmark):
            swallow(lambda: benchmark(unsupported))

        def test_swallows_in_a_round(benchmark):
            swallow(lambda: benchmark.pedantic(unsupported))

        def test_raises(benchmark):
            benchmark(unsupported)

        def test_skips(benchmark):
            pytest.skip("it has no kernel here")

        def test_measures(benchmark):
            benchmark(abs, 1)

        @pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
        def test_reports(benchmark):
            benchmark.report("error", 0.5)

        def test_of_no_case():
            swallow(unsupported)
        """
    )
    ran = cases.runpytest(gate, "--perf-processes=1", "-rfs")
    ran.assert_outcomes(failed=5, skipped=1, passed=3, warnings=1)
    ran.stdout.fnmatch_lines(
        [
            "*_ test_swallows _*",
            "the case ended without a figure: nothing was measured, recorded or reported",
            "hint: let what cannot run raise, or skip with the reason",
            "*_ test_swallows_before _*",
            "the case ended without a figure: nothing was measured, recorded or reported",
            "*_ test_swallows_while_measured _*",
            "the case ended without a figure: nothing was measured, recorded or reported",
            "*_ test_swallows_in_a_round _*",
            "the case ended without a figure: nothing was measured, recorded or reported",
            "*_ test_raises _*",
            "E*NotImplementedError",
        ]
    )


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "inf"])
def test_a_budget_that_is_none_is_refused(cases: pytest.Pytester, budget: str) -> None:
    ran = cases.runpytest(f"--slow-budget={budget}")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines([f"ERROR: --slow-budget={budget}: not a positive number of seconds"])


def test_weights_come_from_a_folder_that_is_there(cases: pytest.Pytester) -> None:
    ran = cases.runpytest("--model-path=gone")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["ERROR: --model-path=gone: not a folder; give the one that holds config.json"])
    (cases.path / "here").mkdir()
    cases.runpytest("--model-path=here", "-s").stdout.fnmatch_lines(["*path: here*"])


@pytest.mark.parametrize(("gpu", "aside"), [(False, True), (True, False)])
def test_what_is_loaded_is_set_aside_for_a_module_but_not_beside_a_gpu(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, gpu: bool, aside: bool
) -> None:
    torch = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: gpu))
    monkeypatch.setitem(sys.modules, "torch", torch)
    shutil.copy(CONFTEST, pytester.path)
    pytester.makepyfile(SET_ASIDE)
    gc.unfreeze()
    ran = pytester.runpytest("-s")
    ran.assert_outcomes(passed=2)
    ran.stdout.fnmatch_lines([f"*case 1: {aside}*", f"*case 2: {aside}*"])
    assert gc.get_freeze_count() <= cpu_memory.IMMORTAL
