"""Does a fresh process get the arguments of its parent, less those that write, ask or select?"""

from __future__ import annotations

from pathlib import Path

import pytest

from perfgate.replicate.command import Launch, strip


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
        (["-o", "perf_strict=true", "--", "tests"], ["-o", "perf_strict=true"]),
    ],
)
def test_strip(arguments, kept):
    assert strip(arguments, ["tests"], "0001") == kept


def test_a_command_names_each_module_once_and_keeps_xdist_out(tmp_path):
    launch = Launch(("-q",), Path("/root-of-tests"), tmp_path, xdist=True)
    cases = ["a/test_x.py::test_1[a::b]", "a/test_x.py::test_2", "test_y.py::T::test_3"]
    command = launch.command(cases, tmp_path)
    assert command[1:4] == ["-m", "pytest", "-q"]
    assert command[-2:] == ["/root-of-tests/a/test_x.py", "/root-of-tests/test_y.py"]
    assert command[command.index("-n") + 1] == "0"
    assert "--maxfail=0" in command
    assert f"cache_dir={tmp_path / 'cache'}" in command


def test_a_launch_travels_to_a_worker(tmp_path):
    launch = Launch(("-q", "-m", "cuda"), tmp_path, tmp_path / "sub", xdist=False)
    assert Launch.from_json(launch.to_json()) == launch
