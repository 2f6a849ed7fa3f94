"""Are long cases left alone until somebody gives them time, and are the options of the cases checked?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "perf_tests" / "conftest.py"
CASES = """
import pytest

@pytest.mark.slow
def test_long(slow_budget_s):
    assert slow_budget_s == 90.0

def test_weights(model_path):
    print(f"path: {model_path}")
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
