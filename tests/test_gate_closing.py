"""Does a failure at the very end of a run hide neither failing tests nor pytest's summary, and is it told?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate import closing
from perfgate.book import grouped
from perfgate.errors import BaselineError, RunFileError, SettingError

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
UNWRITABLE = [
    "ERROR: perfgate: {path}/taken/run.json: cannot write the run: File exists",
    "The tests have run; only this file is missing.",
    "hint: give --perf-json a file in a folder that can be written to",
]

WHY = "The tests have run and their results count; baselines and files that this run was to write may be missing."


@pytest.fixture
def steady(project):
    """A project with one case, ``a``, its baseline, and a file where a folder should be."""
    project.cases("a")
    project.figures("a", STEADY)
    project.store("a")
    (project.path / "taken").write_text("")
    return project


def add(project, file: str, text: str) -> None:
    path = project.path / file
    path.write_text(path.read_text() + text)


def test_a_file_that_cannot_be_written_fails_the_run_below_its_verdicts(steady):
    result = steady.run("--benchmark-compare", "--perf-json=taken/run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "1 unchanged on cpu-pretended-2t",
            *(line.format(path=steady.path) for line in UNWRITABLE),
            "*= 1 passed in *",
        ],
        consecutive=True,
    )
    assert "perf-json" not in result.stderr.str()


def test_a_file_that_cannot_be_written_hides_no_failing_test(steady):
    add(steady, "test_speed.py", "\ndef test_wrong(): assert 1 == 2\n")
    result = steady.run("--benchmark-compare", "--perf-json=taken/run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*= FAILURES =*",
            "1 unchanged on cpu-pretended-2t",
            *(line.format(path=steady.path) for line in UNWRITABLE),
            "FAILED test_speed.py::test_wrong - assert 1 == 2",
            "*= 1 failed, 1 passed in *",
        ]
    )


FAULT = """
from perfgate.book import Book

def broken(self):
    raise KeyError("no such key")

Book._find_removed = broken
"""


@pytest.mark.parametrize("wrong", [False, True])
def test_a_fault_of_ours_is_told_with_its_place_and_hides_no_failing_test(steady, wrong):
    add(steady, "conftest.py", FAULT)
    if wrong:
        add(steady, "test_speed.py", "\ndef test_wrong(): assert 1 == 2\n")
    result = steady.run("--benchmark-compare")
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if wrong else pytest.ExitCode.INTERNAL_ERROR)
    result.assert_outcomes(passed=1, failed=int(wrong))
    line = next(
        n for n, text in enumerate((steady.path / "conftest.py").read_text().splitlines(), 1) if "raise" in text
    )
    result.stdout.fnmatch_lines(
        [
            f"ERROR: perfgate could not sum up this run: KeyError: 'no such key' (conftest.py, line {line})",
            WHY,
            "hint: this is a fault in perfgate: report it with these lines",
            '  File "*run.py", line *, in close',
            '  File "*book.py", line *, in close',
            f'  File "*conftest.py", line {line}, in broken',
        ]
    )
    if wrong:
        result.stdout.fnmatch_lines(["FAILED test_speed.py::test_wrong - assert 1 == 2"])


def test_a_folder_that_cannot_be_read_is_a_problem_beside_the_verdicts(steady):
    add(
        steady,
        "conftest.py",
        "\nfrom perfgate.baseline.store import BaselineStore\nfrom perfgate.errors import BaselineError\n"
        "def unreadable(self, key): raise BaselineError('baselines: the folder cannot be read', '', 'look there')\n"
        "BaselineStore.modules = unreadable\n",
    )
    result = steady.run("--benchmark-compare")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["1 unchanged on cpu-pretended-2t", "problem: baselines: the folder cannot be read", "hint: look there"],
        consecutive=True,
    )


def test_a_worker_that_cannot_sum_up_tells_its_controller(project):
    project.gpus()
    project.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
    project.cases("a", head="@pytest.mark.cuda")
    project.figures("a", STEADY)
    project.store("a", key="nvidia-h200")
    add(
        project,
        "conftest.py",
        "\nfrom perfgate import xdist\nhand_over = xdist.hand_over\n"
        "def once(config, log):\n    xdist.hand_over = hand_over\n    raise OSError('the line is dead')\n"
        "xdist.hand_over = once\n",
    )
    result = project.run("-n", "1", "--benchmark-compare")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["problem: ERROR: perfgate could not sum up this run: OSError: the line is dead (conftest.py, line *)"]
    )


OK, FAILED, INTERRUPTED, INTERNAL, USAGE, NONE = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.INTERRUPTED,
    pytest.ExitCode.INTERNAL_ERROR,
    pytest.ExitCode.USAGE_ERROR,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [(SettingError("w"), USAGE), (BaselineError("w"), FAILED), (RunFileError("w"), FAILED), (KeyError("w"), INTERNAL)],
)
def test_a_failure_at_the_end_is_no_success_and_overrides_nothing_worse(error, code):
    assert [closing.exit_code(error, status) for status in (OK, NONE)] == [code, code]
    for status in (FAILED, INTERRUPTED, INTERNAL, USAGE):
        assert closing.exit_code(error, status) == status


def test_a_named_error_is_told_as_it_is():
    error = BaselineError("a.json: cannot be written: No space left", "Nothing is stored.", "make room")
    assert closing.told(error) == [
        "ERROR: perfgate: a.json: cannot be written: No space left",
        "Nothing is stored.",
        "hint: make room",
    ]


def test_problems_that_differ_in_what_follows_are_told_once_with_their_number():
    first, again = (
        "could not run a and 7 more\nin 0.81 s\nhint: look",
        "could not run a and 7 more\nin 0.93 s\nhint: look",
    )
    assert grouped([first, "gw0 ended", again, "gw1 ended", again]) == [
        "could not run a and 7 more (3 times, shown once)\nin 0.81 s\nhint: look",
        "gw0 ended",
        "gw1 ended",
    ]
    assert grouped(["gw0 ended", "gw0 ended"]) == ["gw0 ended (2 times, shown once)"]


@given(st.lists(st.text(alphabet="ab\n", max_size=6)))
def test_no_kind_of_problem_is_lost_and_none_is_told_twice(problems):
    told = grouped(problems)
    heads = [problem.partition("\n")[0] for problem in problems]
    assert len(told) == len(set(heads))
    for problem in problems:
        alone = heads.count(problem.partition("\n")[0]) == 1
        assert (problem in told) == alone or not alone
