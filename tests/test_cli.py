"""The ``perfgate`` command: what it prints, what it exits with, and that it removes nothing on a guess."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import perfgate
from perfgate import cli
from perfgate.baseline.store import BaselineStore
from perfgate.cli import main
from perfgate.model import Baseline, Device, Hardware, Outcome, Run, StoredMetric
from perfgate.report import run_file, terminal

WHY = "Without knowing every test, no baseline can be called unused; nothing was removed."
# Stands in for the plugin's side of the collection.
CONFTEST = """
import json, os

def pytest_collection_modifyitems(items):
    modules = {}
    for item in items:
        module, case = item.nodeid.split("::", 1)
        modules.setdefault(module, []).append(case)
    with open(os.environ["PERFGATE_COLLECT_FILE"], "w") as file:
        json.dump({"modules": modules}, file)
"""


def stored(tmp_path: Path) -> Path:
    run = Run(
        Hardware((Device("cpu", "AMD EPYC", "cpu-epyc"),)), (), {}, "2026-01-31T12:00:00Z", 1.0, unused=("b/x.json",)
    )
    run_file.write(run, tmp_path / "run.json")
    return tmp_path / "run.json"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project with one test module, and baselines of it, of an older case, and of a module that is gone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # The plugin's side of the collection is the conftest's here, whether or not the plugin is installed.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr("perfgate.hardware.detect", lambda: Hardware((Device("cpu", "AMD EPYC", "cpu-epyc"),)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_a.py").write_text("def test_one(): pass\n")
    store = BaselineStore(tmp_path / "baselines")
    baseline = Baseline(
        "", Outcome.PASSED, (StoredMetric("wall_time", "s", "lower", (1e-3,) * 5),), {"version": "1"}, {}, "1c2d3e4",
        "2026-01-31T12:00:00Z",
    )  # fmt: skip
    store.merge("cpu-epyc", "test_a", {"test_one": baseline, "test_old": baseline})
    store.merge("nvidia-h200", "test_gone", {"test_one": baseline})
    return tmp_path


def files(project: Path) -> dict[str, set[str]]:
    """Give the cases of each baseline file."""
    root = project / "baselines"
    return {
        path.relative_to(root).as_posix(): set(json.loads(path.read_text())["cases"]) for path in root.rglob("*.json")
    }


BEFORE = {"cpu-epyc/test_a.json": {"test_one", "test_old"}, "nvidia-h200/test_gone.json": {"test_one"}}


def commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the command lines of a parser and of every command below it."""
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*path, name))


# What the history does is a word of its own and no command of the parser.
COMMANDS = [*commands(cli._parser()), *(("history", word) for word in ("import", "report", "show"))]


def test_every_command_is_looked_at() -> None:
    assert {("calibrate",), ("diff",), ("github", "pull-request"), ("history",)} < set(COMMANDS)
    assert {path[0] for path in COMMANDS if path} == cli._COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "perfgate")
def test_every_command_explains_itself(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"usage: perfgate {command[0] if command else '[-h]'}")
    assert "\n  -h, --help " in said.out
    assert said.err == ""
    # A percent sign that stands for itself is written twice, and shown once.
    assert "%%" not in said.out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"perfgate {perfgate.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "perfgate: the following arguments are required: COMMAND\nhint: perfgate --help\n"),
        (["show"], "perfgate show: the following arguments are required: RUN.json\nhint: perfgate show --help\n"),
        (["hardware", "--loud"], "perfgate: unrecognized arguments: --loud\nhint: perfgate --help\n"),
        (["show", "x", "--", "-k"], "perfgate: perfgate show takes nothing after --\nhint: perfgate --help\n"),
    ],
)
def test_a_usage_error_exits_as_pytest_does(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 4
    assert capsys.readouterr().err == message


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["purge"])
    assert ended.value.code == 4
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("perfgate: argument COMMAND: invalid choice: 'purge' (choose from ")


def test_hardware_is_described(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Hardware(
        (Device("cpu", "AMD EPYC 9B14", "cpu-amd-epyc-9b14-2t", count=2),), {"cpu": {"python": "3.12.3"}}
    )
    monkeypatch.setattr("perfgate.hardware.detect", lambda: machine)
    assert main(["hardware"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "AMD EPYC 9B14 (CPU, 2 usable threads)"
    assert "  baseline key  cpu-amd-epyc-9b14-2t" in lines


@pytest.mark.parametrize("arguments", [[], ["-v"], ["-vv"]])
def test_a_stored_run_is_shown_as_the_terminal_showed_it(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stored(tmp_path)
    assert main(["show", str(path), *arguments]) == 0
    verbosity = len("".join(arguments).strip("-"))
    shown = [line.text for line in terminal.lines(run_file.read(path), verbosity)]
    assert capsys.readouterr().out.splitlines() == shown
    assert shown[1:] == ["unused baseline: b/x.json", "hint: list and remove unused baselines: perfgate prune"]


def test_a_run_that_cannot_be_read_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path / "none.json")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"perfgate: {tmp_path}/none.json: cannot read the run: No such file or directory\n"
        "hint: a run is stored with: pytest --benchmark-compare --perf-json=FILE\n"
    )


def python(*arguments: str, **options: object) -> subprocess.Popen[str]:
    """Start Python with the package as it is in this working tree."""
    source = str(Path(perfgate.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source}
    return subprocess.Popen([sys.executable, *arguments], env=environment, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_the_command_runs_as_a_module() -> None:
    child = python("-m", "perfgate", "--version", stdout=subprocess.PIPE)
    assert child.communicate(timeout=60)[0] == f"perfgate {perfgate.__version__}\n"
    assert child.returncode == 0


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    child = python("-m", "perfgate", "show", str(stored(tmp_path)), stdout=writable, stderr=subprocess.PIPE)
    os.close(writable)
    assert child.communicate(timeout=60)[1] == ""
    assert child.returncode == 0


def test_nothing_heavy_is_imported_to_show_a_run(tmp_path: Path) -> None:
    code = (
        "import sys; from perfgate.cli import main; main(sys.argv[1:]);"
        "sys.exit(', '.join({'torch', 'numpy', 'scipy', 'rich', 'pytest'} & set(sys.modules)))"
    )
    child = python("-c", code, "show", str(stored(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.communicate(timeout=60)[1] == "\n"


def test_prune_lists_and_removes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--all-keys"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "baselines/cpu-epyc/test_a.json: test_old",
        "baselines/nvidia-h200/test_gone.json: the test module test_gone.py is gone",
        "2 unused baselines; nothing was removed",
        "hint: remove them with: perfgate prune --all-keys --remove",
    ]
    assert files(project) == BEFORE


def test_prune_removes_on_request(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--remove", "--all-keys"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "removed baselines/cpu-epyc/test_a.json: test_old",
        "removed baselines/nvidia-h200/test_gone.json: the test module test_gone.py is gone",
        "removed 2 unused baselines",
    ]
    assert files(project) == {"cpu-epyc/test_a.json": {"test_one"}}
    assert main(["prune"]) == 0
    assert capsys.readouterr().out == "no unused baseline in baselines\n"


def test_prune_leaves_the_baselines_of_other_machines_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only there would the cases of a GPU be collected that has them."""
    store = BaselineStore(project / "baselines")
    stored = store.load("cpu-epyc", "test_a").cases["test_old"]
    store.merge("static-sm_90", "test_a", {"test_old": stored})
    other = "left alone, of other machines: nvidia-h200 (--key KEY or --all-keys takes them too)"
    assert main(["prune"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        other,
        "baselines/cpu-epyc/test_a.json: test_old",
        "baselines/static-sm_90/test_a.json: test_old",
        "2 unused baselines; nothing was removed",
        "hint: remove them with: perfgate prune --remove",
    ]
    assert main(["prune", "--remove"]) == 0
    assert files(project) == {"cpu-epyc/test_a.json": {"test_one"}, "nvidia-h200/test_gone.json": {"test_one"}}
    capsys.readouterr()
    assert main(["prune"]) == 0
    assert capsys.readouterr().out.splitlines() == [other, "no unused baseline in baselines"]


def test_prune_hints_at_the_keys_it_was_asked_about(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--key", "cpu-epyc", "--key", "nvidia-h200"]) == 0
    hint = "hint: remove them with: perfgate prune --key cpu-epyc --key nvidia-h200 --remove"
    assert capsys.readouterr().out.splitlines()[-2:] == ["2 unused baselines; nothing was removed", hint]


def test_prune_can_be_kept_to_one_hardware(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--remove", "--key", "cpu-epyc"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "removed 1 unused baseline"
    assert files(project) == {"cpu-epyc/test_a.json": {"test_one"}, "nvidia-h200/test_gone.json": {"test_one"}}


def test_prune_looks_where_it_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "baselines").rename(project / "elsewhere")
    assert main(["prune"]) == 0
    assert capsys.readouterr().out == "no unused baseline in baselines\n"
    assert main(["prune", "--all-keys", "--baselines", "elsewhere"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "elsewhere/cpu-epyc/test_a.json: test_old"


def test_prune_follows_pytest_s_root_and_setting(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f'{{"modules": modules, "rootdir": {str(project)!r}, "baselines": "kept/baselines"}}'
    (project / "conftest.py").write_text(CONFTEST.replace('{"modules": modules}', told))
    (project / "kept").mkdir()
    (project / "baselines").rename(project / "kept" / "baselines")
    (project / "sub").mkdir()
    monkeypatch.chdir(project / "sub")
    assert main(["prune", "--all-keys", "--", ".."]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{project}/kept/baselines/cpu-epyc/test_a.json: test_old",
        f"{project}/kept/baselines/nvidia-h200/test_gone.json: the test module test_gone.py is gone",
        "2 unused baselines; nothing was removed",
        "hint: remove them with: perfgate prune --all-keys --remove",
    ]


def test_prune_leaves_damaged_files_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "baselines/nvidia-h200/test_gone.json").write_text("")
    assert main(["prune", "--remove", "--key", "nvidia-h200"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "left alone, damaged: baselines/nvidia-h200/test_gone.json: the file is empty",
        "no unused baseline in baselines",
    ]


def failing(project: Path) -> None:
    (project / "test_a.py").write_text("import no_such_module\n")


def empty(project: Path) -> None:
    (project / "test_a.py").unlink()


def elsewhere(project: Path) -> None:
    (project / "conftest.py").write_text(CONFTEST.replace('{"modules": modules}', '{"modules": {"other": []}}'))


def untouched(project: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("arrange", "arguments", "code", "message"),
    [
        (
            empty,
            [],
            1,
            f"perfgate: pytest --collect-only -q found no performance case\n{WHY}\n"
            "hint: call perfgate in the folder where pytest finds your tests\n",
        ),
        (
            elsewhere,
            [],
            1,
            f"perfgate: pytest --collect-only -q collected other.py, which is not in FOLDER\n{WHY}\n"
            "hint: call perfgate in pytest's root folder\n",
        ),
        (
            untouched,
            ["--", "test_a.py::test_one"],
            4,
            "perfgate: perfgate prune cannot use test_a.py::test_one\n"
            "Cases of a module that were not collected would seem unused.\n"
            "hint: name the whole module: perfgate prune -- test_a.py\n",
        ),
        (
            lambda project: (project / "conftest.py").unlink(),
            ["--", "-p", "no:perfgate"],
            1,
            "perfgate: the tests could not be collected: pytest --collect-only -q -p no:perfgate ran without perfgate\n"
            f"{WHY}\nhint: remove -p no:perfgate from pytest's settings\n",
        ),
    ],
)
def test_prune_removes_nothing_when_it_cannot_know(
    arrange: Callable[[Path], None],
    arguments: list[str],
    code: int,
    message: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrange(project)
    assert main(["prune", "--remove", *arguments]) == code
    out, err = capsys.readouterr()
    assert (out, err.replace(str(project), "FOLDER")) == ("", message)
    assert files(project) == BEFORE


def test_prune_shows_why_the_collection_failed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing(project)
    assert main(["prune", "--remove", "--", "-p", "no:cacheprovider"]) == 1
    lines = capsys.readouterr().err.splitlines()
    command = "pytest --collect-only -q -p no:cacheprovider"
    assert lines[:2] == [f"perfgate: the tests could not be collected: {command} ended with exit code 2", WHY]
    assert "E   ModuleNotFoundError: No module named 'no_such_module'" in lines
    assert lines[-1] == f"hint: make this work first: {command}"
    assert files(project) == BEFORE


@pytest.mark.parametrize(
    "arguments", [["--history", "h.sqlite", "a.json", "b.json"], ["a.json", "--history=h.sqlite", "b.json"]]
)
def test_words_may_stand_on_both_sides_of_an_option(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["history", "import", *arguments]) == 1
    assert capsys.readouterr().err == (
        "perfgate: a.json: cannot read it: No such file or directory\n"
        "b.json: cannot read it: No such file or directory\n"
    )


@pytest.mark.parametrize(("arguments", "named"), [(["calibrate", "a", "--bogus"], "--bogus"), (["hardware", "x"], "x")])
def test_what_no_command_knows_is_an_error(arguments, named, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 4
    assert capsys.readouterr().err == f"perfgate: unrecognized arguments: {named}\nhint: perfgate --help\n"
