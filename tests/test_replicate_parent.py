"""Do fresh processes run what their parent runs, whatever its command line, and leave its files alone?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import perfgate

STEADY = [1.000e-3, 1.001e-3, 0.999e-3, 1.000e-3, 1.002e-3]
SOURCES = Path(perfgate.__file__).parents[1]
COUNTING = "import os, pathlib\npathlib.Path(__file__).with_name(f'pid.{os.getpid()}').touch()\n"
INI = "[pytest]\naddopts = -p benchmark -p perfgate"


@pytest.fixture
def slowed(project):
    """A project of which one case became twice as slow."""
    project.cases("a")
    project.figures("a", STEADY)
    project.store("a")
    project.figures("a", [2e-3])
    return project


def start(project, how: tuple[str, ...], *arguments: str) -> str:
    """Run pytest with nothing on the path but an installed package, and what the way of starting it puts there."""
    (project.path / "script.json").write_text(json.dumps(project.script))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project.path / "site"), str(SOURCES)])}
    done = subprocess.run(
        [*how, *arguments], cwd=project.path, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    return done.stdout


@pytest.mark.parametrize(
    ("how", "which"),
    [((str(Path(sys.executable).with_name("pytest")),), "installed"), ((sys.executable, "-m", "pytest"), "folder")],
    ids=["pytest", "python -m pytest"],
)
def test_fresh_processes_import_what_the_run_imports(project, how, which):
    project.pytester.makeini(f"{INI} --import-mode=importlib -p no:cacheprovider\n")
    for name, folder in (("installed", project.path / "site" / "thing"), ("folder", project.path / "thing")):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"WHICH = {name!r}\n")
    project.figures("a", STEADY)
    project.pytester.makepyfile(
        test_speed="""
        import os, pathlib, pytest, thing

        def note():
            pathlib.Path(f"saw.{os.getpid()}").write_text(thing.WHICH)

        def test_a(benchmark):
            note()
            benchmark(lambda: "a")

        @pytest.mark.isolate
        def test_alone():
            note()
        """
    )
    start(project, how, "--perf-update=all")
    seen = [path.read_text() for path in project.path.glob("saw.*")]
    assert seen == [which] * 7, "the run, five recorded processes and an isolated one"


@pytest.mark.parametrize(
    "arguments",
    [
        ("folder", "-k", "folder", "--benchmark-compare"),
        ("-k", "folder", "--benchmark-compare", "folder"),
        ("--benchmark-compare", "--benchmark-histogram", "hist"),
        ("--benchmark-compare", "--benchmark-cprofile-dump", "dumped"),
        ("--benchmark-compare", "--lf", "--lfnf=none", "--nf", "--sw"),
    ],
    ids=" ".join,
)
def test_a_suspicion_is_confirmed_under_any_command_line(slowed, arguments):
    slowed.pytester.makeini(f"{INI}\n")
    (slowed.path / "folder").mkdir()
    if "folder" in arguments:
        (slowed.path / "test_speed.py").rename(slowed.path / "folder" / "test_speed.py")
        (slowed.path / "baselines/cpu-pretended-2t/folder").mkdir()
        slowed.baseline_file().rename(slowed.path / "baselines/cpu-pretended-2t/folder/test_speed.json")
    cache = slowed.path / ".pytest_cache/v/cache"
    cache.mkdir(parents=True)
    failed = "folder/test_speed.py::test_a" if "folder" in arguments else "test_speed.py::test_a"
    (cache / "lastfailed").write_text(json.dumps({failed: True}))
    (cache / "nodeids").write_text("[]")
    result = slowed.run("--perf-processes=2", *arguments)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*wall_time 1.00 ms -> 2.00 ms*2 processes*"])


def test_flags_of_the_ini_file_that_choose_tests_do_not_reach_fresh_processes(slowed):
    slowed.pytester.makeini(f"{INI} --lf --lfnf=none --sw --junitxml=junit.xml\n")
    cache = slowed.path / ".pytest_cache/v/cache"
    cache.mkdir(parents=True)
    (cache / "lastfailed").write_text('{"test_speed.py::test_a": true}')
    conftest = slowed.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + "\ndef pytest_unconfigure(config):\n"
        + "    import os\n"
        + "    here.joinpath(f'xml.{os.getpid()}').write_text(str(config.option.xmlpath))\n"
    )
    result = slowed.run("--benchmark-compare", "--perf-processes=2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*wall_time 1.00 ms -> 2.00 ms*2 processes*"])
    assert sorted(path.read_text() for path in slowed.path.glob("xml.*")) == ["None", "junit.xml"]


def test_a_case_that_no_fresh_process_comes_to_is_tried_once(slowed):
    conftest = slowed.path / "conftest.py"
    conftest.write_text(
        COUNTING + conftest.read_text() + "\nassert len(list(here.glob('pid.*'))) == 1, 'no second one'\n"
    )
    run = slowed.json("-k", "test_a or b")
    assert len(list(slowed.path.glob("pid.*"))) == 2, "the run itself and one fresh process"
    (problem,) = run["problems"]
    assert problem.splitlines()[0] == "a fresh process could not run test_speed.py::test_a: it ended with exit code 4"
    assert problem.splitlines()[-1] == "hint: run it by hand: python -m pytest -k 'test_a or b' test_speed.py::test_a"
    (case,) = run["cases"]
    assert (case["verdict"], case["reason"]) == ("inconclusive", "no fresh process could run it to confirm this")


@pytest.mark.parametrize("where", ["flags", "ini"])
def test_fresh_processes_leave_the_files_of_the_run_alone(project, where):
    """An isolated test that uses ``tmp_path`` and logs, between two that look at what the run has written."""
    flags = ["--basetemp=temporary", "--log-file=run.log", "--log-file-level=INFO"]
    if where == "ini":
        project.pytester.makeini(f"{INI} --basetemp=temporary\nlog_file = run.log\nlog_file_level = INFO\n")
        flags = []
    project.pytester.makepyfile(
        test_files="""
        import logging, pytest

        def test_before(tmp_path):
            (tmp_path / "kept").touch()
            logging.info("from the run")

        @pytest.mark.isolate
        def test_alone(tmp_path):
            (tmp_path / "other").touch()
            logging.info("from a fresh process")

        def test_after(tmp_path):
            assert (tmp_path.parent / "test_before0" / "kept").exists()
        """
    )
    project.run(*flags).assert_outcomes(passed=3)
    log = (project.path / "run.log").read_text()
    assert "from the run" in log
    assert "from a fresh process" not in log


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
@pytest.mark.parametrize(("parent", "said"), [("os.getppid()", "on"), ("0", "on"), ("1 << 30", "")])
def test_a_fresh_process_whose_run_died_while_it_started_does_nothing(parent, said):
    code = f"import os; from perfgate.replicate import child; child._die_with_parent({parent}); print('on', end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0 if said else 1, said, "")
