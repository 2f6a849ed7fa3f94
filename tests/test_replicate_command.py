"""Does a fresh process get the arguments of its parent, less those that write, ask or select?"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perfgate import startup
from perfgate.replicate.command import Launch, from_config, strip
from perfgate.report.words import from_folder


@pytest.fixture
def actions(pytester):
    """Give what pytest's parser knows."""
    return pytester.parseconfig()._parser.optparser._option_string_actions


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["tests", "-q"], ["-q"]),
        (["--junitxml=a.xml", "--junitxml", "b.xml", "--color=no"], ["--color=no"]),
        (["--benchmark-compare", "tests", "-x"], ["-x"]),
        (["--benchmark-compare", "0001", "-m", "cuda"], ["-m", "cuda"]),
        (["--benchmark-compare=0001", "-k", "a and b"], ["-k", "a and b"]),
        (["--perf-update=all", "--perf-update", "new", "--perf-baselines=x"], ["--perf-baselines=x"]),
        (["--perf-json", "run.json", "--pdb", "-p", "no:cacheprovider"], ["-p", "no:cacheprovider"]),
        (["-k", "tests", "tests"], ["-k", "tests"]),
        (["tests", "-k", "tests"], ["-k", "tests"]),
        (["-vk", "tests", "tests", "-ktests"], ["-vk", "tests", "-ktests"]),
        (["-rA", "tests", "-xvs", "more", "-W", "error"], ["-rA", "-xvs", "-W", "error"]),
        (["-o", "perf_strict=true", "--", "tests", "-k"], ["-o", "perf_strict=true"]),
        (["--benchmark-histogram", "hist", "--benchmark-cprofile-dump", "X", "-q"], ["-q"]),
        (["--benchmark-histogram", "--benchmark-cprofile", "tottime", "-q"], ["-q"]),
        (["--lf", "--lfnf=none", "--ff", "--nf", "--sw", "--stepwise-skip", "--co", "-q"], ["-q"]),
        (["--last-failed", "--last-failed-no-failures", "none", "--failed-first", "tests"], []),
        (["--basetemp", "tmp", "--basetemp=tmp", "--log-file", "a.log", "--log-level=INFO"], ["--log-level=INFO"]),
        (["--unknown", "tests", "--unknown=a"], ["--unknown", "--unknown=a"]),
        (["--perf-profile", "tests", "--perf-profile=out"], []),
    ],
)
def test_strip(arguments, kept, actions):
    assert strip(arguments, actions) == kept


@pytest.mark.parametrize("sees_cwd", [False, True])
def test_a_command_names_each_module_once_and_keeps_out_of_everything_else(tmp_path, sees_cwd):
    flags = frozenset({"--cache-clear", "--basetemp", "--log-file", "--no-cov", "--numprocesses"})
    launch = Launch(("-q",), Path("/root-of-tests"), tmp_path, flags, sees_cwd)
    cases = ["a/test_x.py::test_1[a::b]", "a/test_x.py::test_2", "test_y.py::T::test_3"]
    assert launch.command(cases, tmp_path) == [
        sys.executable,
        *([] if sees_cwd else ["-P"]),
        *("-m", "pytest", "-q", "--maxfail=0", "--rootdir=/root-of-tests"),
        *("-o", f"cache_dir={tmp_path}/cache", f"--basetemp={tmp_path}/tmp", "--log-file=", "-o", "log_file="),
        *("--no-cov", "--numprocesses=0", "/root-of-tests/a/test_x.py", "/root-of-tests/test_y.py"),
    ]


def test_a_command_leaves_out_what_no_plugin_knows(tmp_path):
    command = Launch((), tmp_path, tmp_path).command(["test_x.py::test_1"], tmp_path)
    assert command == [
        *(sys.executable, "-P", "-m", "pytest", "--maxfail=0", f"--rootdir={tmp_path}", f"{tmp_path}/test_x.py")
    ]


def test_a_launch_travels_to_a_worker(tmp_path):
    launch = Launch(("-q", "-m", "cuda"), tmp_path, tmp_path / "sub", frozenset({"--basetemp"}), True)
    assert Launch.from_json(launch.to_json()) == launch


def test_a_case_is_run_by_hand_from_where_pytest_was_called(tmp_path):
    launch = Launch(("-k", "a or b"), tmp_path, tmp_path / "sub")
    assert launch.by_hand("test_x.py::test_1[a b]") == "pytest -k 'a or b' '../test_x.py::test_1[a b]'"
    launch = Launch((), tmp_path, tmp_path, sees_cwd=True)
    assert launch.by_hand("a/test_x.py::test_1") == "python -m pytest a/test_x.py::test_1"


@pytest.mark.parametrize(
    ("case", "folder", "here"),
    [
        ("a/test_x.py::test_1[../b]", ".", "a/test_x.py::test_1[../b]"),
        ("a/test_x.py::test_1", "..", "../a/test_x.py::test_1"),
        ("a/test_x.py", "../..", "../../a/test_x.py"),
        ("a/test_x.py::test_1", "a/..", "a/test_x.py::test_1"),
    ],
)
def test_a_node_id_from_another_folder(case, folder, here):
    assert from_folder(case, folder) == here


def test_a_file_of_arguments_is_read_by_the_parent(pytester):
    pytester.makepyfile(test_x="def test_1(): pass")
    (pytester.path / "arguments").write_text("test_x.py\n-k\ntest_1\n")
    config = pytester.parseconfig("@arguments")
    launch = from_config(config)
    assert launch.arguments[-2:] == ("-k", "test_1")
    assert not [argument for argument in launch.arguments if argument.startswith("@") or "test_x" in argument]
    assert launch.flags >= {"--basetemp", "--cache-clear", "--log-file"}


@pytest.mark.parametrize(
    ("first", "sees"), [("", True), (".", True), ("{cwd}", True), ("/elsewhere", False), (None, False)]
)
def test_whether_the_interpreter_sees_the_working_folder(tmp_path, monkeypatch, first, sees):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [] if first is None else [first.format(cwd=tmp_path), str(tmp_path)])
    assert startup._sees_cwd() is sees
