"""Does a comparison with a commit catch what became slower, leave alone what did not, and answer everything else?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
KEY = "cpu-pretended-2t"
# Waits to be ended, in the head's process of the first pair.
HANG = """
import pathlib, time
if pathlib.Path(__file__).parent.name != "base":
    pathlib.Path("hanging").write_text(str(__import__("os").getpid()))
    time.sleep(60)
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, message: str = "one") -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "--short", "HEAD").strip()


def worktrees(folder: Path) -> list[str]:
    lines = git(folder, "worktree", "list", "--porcelain").splitlines()
    return [line for line in lines if line.startswith("worktree")]


@pytest.fixture
def repository(project, tmp_path, monkeypatch):
    """A project under git, of which two cases take 1 ms; what it leaves behind can be seen in ``temporary``."""
    project.temporary = tmp_path / "temporary"
    project.temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(project.temporary))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git(project.path, "init", "--quiet", "--initial-branch=main")
    ignored = ("*.taken", "__pycache__", "*.json", "!script.json", "hanging", "stdout", "stderr", "runpytest-*")
    (project.path / ".gitignore").write_text("\n".join(ignored))
    project.cases("a", "b")
    for name in "ab":
        project.figures(name, STEADY)
    (project.path / "script.json").write_text(json.dumps(project.script))
    project.short = commit(project.path)
    return project


def compare(repository, *arguments: str, pairs: int = 1) -> pytest.RunResult:
    """Compare with main, and check that nothing is left behind."""
    result = repository.run("--perf-ab=main", "--perf-json=run.json", f"--perf-processes={pairs}", *arguments)
    assert len(worktrees(repository.path)) == 1
    assert list(repository.temporary.glob("perfgate-*")) == []
    return result


def cases(repository) -> dict[str, dict]:
    run = json.loads((repository.path / "run.json").read_text())
    return {case["id"].rpartition("_")[2]: case for case in run["cases"]}


def test_a_slower_function_fails_its_test_and_a_faster_one_does_not(repository):
    repository.figures("a", [1.1 * time for time in STEADY])
    repository.figures("b", [0.9 * time for time in STEADY])
    result = compare(repository, pairs=4)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            f"perfgate: {KEY}; base: main ({repository.short}); head: working tree, 1 file not committed",
            "performance regressed: wall_time 1.00 ms -> 1.10 ms (+10.0 %, *, limit 5 %, 4 processes)",
            f"  hardware: {KEY}",
            "hint: measure both sides again: pytest --perf-ab=main test_speed.py::test_a",
            f"1 regressed, 1 improved on {KEY}",
            "head: the working tree, 1 file not committed",
            f"case *metric *main ({repository.short}) *now *",
        ]
    )
    run = json.loads((repository.path / "run.json").read_text())
    assert (run["base"], run["base_commit"]) == ("main", repository.short)
    assert run["remarks"] == ["head: the working tree, 1 file not committed"]
    assert (cases(repository)["a"]["processes"], cases(repository)["b"]["processes"]) == (4, 4)
    values = cases(repository)["a"]["metrics"][0]
    assert (values["values"], values["baseline_values"]) == ([1.1 * time for time in STEADY[:4]], STEADY[:4])


def test_every_side_takes_turns_and_goes_first_in_turn(repository):
    result = compare(repository, "-k", "test_a", pairs=2)
    sides = [line.split(": ")[2] for line in result.outlines if line.startswith("perfgate: comparing")]
    assert sides == [
        f"{side} process of pair {pair} of {pair}"
        for pair, order in enumerate([("base", "head"), ("head", "base")], 1)
        for side in order
    ]
    result.stdout.fnmatch_lines(["base and head are the same code: whatever differs is noise"])


def test_what_looks_slower_after_the_usual_pairs_and_is_undecided_gets_more(repository):
    """Of four pairs, and six and eight further ones, in place of 12, 18 and 24: each pair is two processes."""
    conftest = repository.path / "conftest.py"
    conftest.write_text(
        conftest.read_text() + "\nfrom perfgate.ab import judge\njudge.TOTALS, judge.FURTHER = (4,), (6, 8)\n"
    )
    for name in "ab":
        repository.figures(name, [0.9e-3, 1.1e-3] * 4)
    (repository.path / "script.json").write_text(json.dumps(repository.script))
    commit(repository.path, "noisy")
    repository.figures("a", [0.99e-3, 1.21e-3] * 4)
    compare(repository, pairs=4)
    found = {name: (case["verdict"], case["processes"]) for name, case in cases(repository).items()}
    assert found == {"a": ("inconclusive", 8), "b": ("inconclusive", 4)}


def test_more_memory_fails_its_test(repository):
    repository.figures("a", STEADY, memory=1 << 21)
    result = compare(repository)
    result.stdout.fnmatch_lines(["performance regressed: memory 1.00 MiB -> 2.00 MiB (*, 1 process)"])
    assert {name: case["verdict"] for name, case in cases(repository).items()} == {"a": "regressed", "b": "unchanged"}


def test_a_test_that_fails_is_an_ordinary_failure(repository):
    source = repository.path / "test_speed.py"
    source.write_text(source.read_text().replace("benchmark(lambda: 'a')", "assert benchmark(lambda: 'a') == 'z'"))
    result = compare(repository)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*assert 'a' == 'z'*", f"1 unchanged, 1 not judged on {KEY}"])
    assert cases(repository)["a"]["reason"] == "the test failed; its time was not judged"


def test_a_crash_on_one_side_only_is_a_changed_outcome(repository):
    (repository.path / "ours.py").write_text("def work(): return 'a'\n")
    source = repository.path / "test_speed.py"
    source.write_text("from ours import work\n" + source.read_text().replace("lambda: 'a'", "work"))
    commit(repository.path, "two")
    (repository.path / "ours.py").write_text("import os, signal\ndef work(): os.kill(os.getpid(), signal.SIGKILL)\n")
    result = compare(repository)
    result.assert_outcomes(failed=1, passed=1)
    case = cases(repository)["a"]
    assert (case["verdict"], case["outcome"]) == ("outcome_changed", "crashed")
    assert case["reason"] == "passed -> crashed: killed by SIGKILL (signal 9)"
    git(repository.path, "commit", "--quiet", "--all", "--message", "three")
    (repository.path / "ours.py").write_text("def work(): return 'a'\n")
    compare(repository).assert_outcomes(passed=2)
    case = cases(repository)["a"]
    assert (case["verdict"], case["reason"]) == ("improved", "crashed -> passed")


def test_a_test_that_is_new_has_nothing_to_be_compared_with(repository):
    (repository.path / "ours.py").write_text("def work(): return 'c'\n")
    repository.figures("c", STEADY)
    source = repository.path / "test_speed.py"
    source.write_text(source.read_text() + "\ndef test_c(benchmark):\n    from ours import work\n    benchmark(work)\n")
    compare(repository).assert_outcomes(passed=3)
    case = cases(repository)["c"]
    assert (case["verdict"], case["reason"]) == ("new", "not on main")
    compare(repository, "--perf-strict").assert_outcomes(passed=2, failed=1)


def test_a_base_that_cannot_import_what_the_tests_need_is_told_once(repository):
    (repository.path / "ours.py").write_text("def work(): return 'a'\n")
    source = repository.path / "test_speed.py"
    source.write_text("from ours import work\n" + source.read_text())
    result = compare(repository)
    result.assert_outcomes(passed=2)
    reason = "the base does not import: ModuleNotFoundError: No module named 'ours'"
    assert {case["reason"] for case in cases(repository).values()} == {reason}
    assert {case["verdict"] for case in cases(repository).values()} == {"new"}
    remarks = json.loads((repository.path / "run.json").read_text())["remarks"]
    assert [remark for remark in remarks if "import" in remark] == [
        f"{reason}: what the tests of now need of the code is not all there"
    ]
    compare(repository, "--perf-strict").assert_outcomes(failed=2)


def test_a_parameter_that_is_new_is_a_new_case_of_a_test_that_is_not(repository):
    (repository.path / "ours.py").write_text("SIZES = [1]\n")
    source = repository.path / "test_speed.py"
    source.write_text(
        "import pytest, ours\n" + source.read_text() + "\n@pytest.mark.parametrize('n', ours.SIZES)\n"
        "def test_c(benchmark, n): benchmark(lambda: 'a')\n"
    )
    repository.figures("c[1]", STEADY)
    repository.figures("c[2]", STEADY)
    (repository.path / "script.json").write_text(json.dumps(repository.script))
    commit(repository.path, "two")
    (repository.path / "ours.py").write_text("SIZES = [1, 2]\n")
    compare(repository).assert_outcomes(passed=4)
    told = {name: (case["verdict"], case["reason"]) for name, case in cases(repository).items()}
    assert told["c[2]"] == ("new", "not on main")
    assert told["c[1]"][0] == "unchanged"
    assert json.loads((repository.path / "run.json").read_text())["remarks"] == [
        "head: the working tree, 1 file not committed"
    ]


def test_a_module_that_the_base_skips_has_nothing_to_be_compared_with(repository):
    (repository.path / "ours.py").write_text("")
    source = repository.path / "test_speed.py"
    source.write_text("import pytest\npytest.importorskip('ours')\n" + source.read_text())
    compare(repository).assert_outcomes(passed=2)
    reason = "the base does not import: Skipped: could not import 'ours': No module named 'ours'"
    assert {(case["verdict"], case["reason"]) for case in cases(repository).values()} == {("new", reason)}


def test_a_test_that_only_the_head_passes_is_no_improvement(repository):
    (repository.path / "ours.py").write_text("def work(): return 'a'\n")
    source = repository.path / "test_speed.py"
    source.write_text("import ours\n" + source.read_text().replace("lambda: 'a'", "ours.work"))
    commit(repository.path, "two")
    (repository.path / "ours.py").write_text("def renamed(): return 'a'\n")
    source.write_text(source.read_text().replace("ours.work", "ours.renamed"))
    compare(repository).assert_outcomes(passed=2)
    case = cases(repository)["a"]
    assert (case["verdict"], case["outcome"], case["reason"]) == (
        "new",
        "passed",
        "the base does not pass the test of now: AttributeError: module 'ours' has no attribute 'renamed'",
    )
    assert cases(repository)["b"]["verdict"] == "unchanged"


def test_a_test_that_is_gone_is_named(repository):
    source = repository.path / "test_speed.py"
    source.write_text(source.read_text().replace("def test_b", "def test_c"))
    result = compare(repository)
    result.stdout.fnmatch_lines(["on main and no longer here: test_speed.py::test_b"])
    # The code that it measures is on both sides: the test is new, and compared all the same.
    assert cases(repository)["c"]["verdict"] == "unchanged"


def test_a_module_of_tests_that_is_gone_is_named_where_it_would_have_been_run(repository):
    repository.path.joinpath("inner").mkdir()
    (repository.path / "inner/test_old.py").write_text("def test_z(benchmark): pass\n")
    commit(repository.path, "two")
    (repository.path / "inner/test_old.py").unlink()
    compare(repository).stdout.fnmatch_lines(["on main and no longer here: inner/test_old.py::test_z"])
    compare(repository, "test_speed.py").stdout.no_fnmatch_line("*no longer here*")


def test_a_change_of_what_measures_is_named_for_both_sides_have_it(repository):
    source = repository.path / "test_speed.py"
    source.write_text(source.read_text() + "\n# changed\n")
    compare(repository).stdout.fnmatch_lines(["the head's on both sides, as what measures always is: test_speed.py"])


def test_a_base_that_reaches_the_working_tree_is_no_base(repository):
    (repository.path / "ours.py").write_text("def work(): return 'a'\n")
    commit(repository.path, "two")
    source = repository.path / "test_speed.py"
    place = repository.path / "ours.py"
    source.write_text(
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('ours', {str(place)!r})\n"
        "sys.modules['ours'] = ours = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(ours)\n" + source.read_text()
    )
    result = compare(repository)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            f"2 inconclusive on {KEY}",
            f"problem: the base ran code of the working tree: ours from {place}",
            "What it measured is no measurement of the base, so nothing was compared.",
            "hint: let the tests find the code by an import; a path that is written out leads to one side only",
        ]
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(repository, number):
    source = repository.path / "test_speed.py"
    source.write_text(source.read_text().replace("    benchmark(lambda: 'a')", _indented(HANG)))
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--perf-ab=main"],
        cwd=repository.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    started = repository.path / "hanging"
    end = time.monotonic() + 120
    while not (started.exists() and started.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    child = int(started.read_text())
    assert len(worktrees(repository.path)) == 2
    run.send_signal(number)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert len(worktrees(repository.path)) == 1
    assert list(repository.temporary.glob("perfgate-*")) == []
    assert not Path(f"/proc/{child}").exists()


def _indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())
