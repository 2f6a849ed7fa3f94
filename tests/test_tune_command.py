"""What does ``perfgate tune`` print and store? With a pretended GPU, kernel and clock."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import perfgate
from perfgate import cli
from perfgate.errors import PerfgateError, SettingError
from perfgate.model import Device, Hardware
from perfgate.tune import command, lost, store
from perfgate.tune.tunable import resolve

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")

CPU = Device("cpu", "Pretended CPU", "cpu-pretended-2t")
H200 = Device("cuda", "NVIDIA H200", "nvidia-h200", capability=(9, 0))
SOFTWARE = {"torch": "2.11.0", "triton": "3.6.0"}
TUNING = """
import dataclasses, torch
from perfgate.tune.tunable import Tunable

@dataclasses.dataclass(frozen=True)
class Config:
    warps: int

def launch(config, x):
    if config.warps == 32:
        raise ValueError("too many warps")
    return x + 1

TUNABLE = Tunable(
    kernel="NAME",
    shapes=lambda: [(128,), (256,), (512,)],
    shape_class=lambda rows: f"rows-{rows}",
    default=lambda rows: Config(4),
    candidates=lambda rows: [Config(1), Config(8)],
    neighbours=lambda config, rows: [Config(2 * config.warps)],
    inputs=lambda rows: (torch.zeros(rows),),
    launch=launch,
)
"""
_numbers = itertools.count()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a project with one kernel, on a machine with a GPU; give the kernel's name, which is new for each test."""
    name = f"rows_{next(_numbers)}"
    folder = tmp_path / "source" / f"kernels_{name}" / name
    folder.mkdir(parents=True)
    (folder / "tuning.py").write_text(TUNING.replace("NAME", name))
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = source\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "source"))
    monkeypatch.delenv("PERFGATE_BASELINES", raising=False)
    monkeypatch.setattr("perfgate.hardware.detect", lambda: Hardware((H200, CPU), {"cuda": SOFTWARE, "cpu": {}}))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    return name


def clock(call: Callable[..., Any], arguments: Sequence[Any], seconds: float) -> float:
    """Let more warps be faster, but not for 256 rows."""
    (x,) = arguments
    return 10e-6 if len(x) == 256 else 40e-6 / call.args[0].warps  # type: ignore[attr-defined]


def started(*arguments: str, timer: Callable[..., float] = clock) -> Iterator[str]:
    """Start the command with a pretended clock."""
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["tune", *arguments]), timer=timer)


def tune(*arguments: str, timer: Callable[..., float] = clock) -> list[str]:
    """Run the command to its end."""
    return list(started(*arguments, timer=timer))


def classes(kernel: str) -> dict[str, Any]:
    return json.loads(Path(f"baselines/nvidia-h200/tuning/{kernel}.json").read_text())["classes"]


def test_what_is_found_is_told_and_stored(kernel: str) -> None:
    assert tune(kernel) == [
        f"tuning {kernel} on nvidia-h200: 3 classes of shapes",
        "[1/3] rows-128: warps=16 saves 75 % of 10.0 us",
        "  skipped warps=32: ValueError: too many warps",
        "[2/3] rows-256: the default stays, 10.0 us",
        "[3/3] rows-512: warps=16 saves 75 % of 10.0 us",
        "  skipped warps=32: ValueError: too many warps",
        "",
        "class     tried  skipped  default    takes  best           takes  saved",
        "rows-128      5        1  warps=4  10.0 us  warps=16     2.50 us   75 %",
        "rows-256      3        0  warps=4  10.0 us  the default  10.0 us      -",
        "rows-512      5        1  warps=4  10.0 us  warps=16     2.50 us   75 %",
        "2 of 3 classes faster than the default by more than 2 %",
        f"stored in baselines/nvidia-h200/tuning/{kernel}.json",
    ]
    stored = store.load(Path("baselines"), "nvidia-h200", kernel)
    assert {name: entry.config for name, entry in stored.items()} == {
        "rows-128": {"warps": 16},
        "rows-256": None,
        "rows-512": {"warps": 16},
    }
    assert all(entry.environment == SOFTWARE and entry.default == {"warps": 4} for entry in stored.values())
    assert (stored["rows-128"].config_s, stored["rows-128"].default_s) == (2.5e-6, 10e-6)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", stored["rows-128"].date)


def test_some_shapes(kernel: str) -> None:
    tune(kernel, "--shapes", "*-5*", "--shapes", "rows-128")
    assert sorted(classes(kernel)) == ["rows-128", "rows-512"]
    with pytest.raises(SettingError) as caught:
        tune(kernel, "--shapes", "rows-1*", "--shapes", "columns-*")
    assert str(caught.value) == (
        f"{kernel}: no class of shapes matches 'columns-*'\nhint: classes are rows-128, rows-256, rows-512"
    )


def test_only_what_is_missing(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(kernel, "--shapes", "rows-256")
    assert tune(kernel, "--missing")[0] == f"tuning {kernel} on nvidia-h200: 2 classes of shapes"
    assert tune(kernel, "--missing") == [f"tuning {kernel} on nvidia-h200: 0 classes of shapes"]
    newer = {**SOFTWARE, "triton": "3.9.0"}
    monkeypatch.setattr("perfgate.hardware.detect", lambda: Hardware((H200, CPU), {"cuda": newer}))
    assert tune(kernel, "--missing")[0] == f"tuning {kernel} on nvidia-h200: 3 classes of shapes"


def test_an_interrupt_loses_no_class_that_was_found(kernel: str) -> None:
    def impatient(call: Callable[..., Any], arguments: Sequence[Any], seconds: float) -> float:
        if len(arguments[0]) == 256:
            raise KeyboardInterrupt
        return clock(call, arguments, seconds)

    lines: list[str] = []
    with pytest.raises(PerfgateError) as caught:
        lines.extend(started(kernel, timer=impatient))
    assert str(caught.value) == (
        "interrupted: 1 of 3 classes were tuned\n"
        "What was found is stored.\n"
        f"hint: go on with: perfgate tune {kernel} --missing"
    )
    assert lines[-1] == f"stored in baselines/nvidia-h200/tuning/{kernel}.json"
    assert list(classes(kernel)) == ["rows-128"]


def test_a_budget_that_is_spent(kernel: str) -> None:
    with pytest.raises(PerfgateError) as caught:
        tune(kernel, "--budget-s", "0")
    assert str(caught.value) == (
        "the budget of 0 s is spent: 0 of 3 classes were tuned\nNothing was found yet.\n"
        f"hint: go on with: perfgate tune {kernel} --missing"
    )


def test_what_was_found_before_is_tried_again(kernel: str) -> None:
    entry = store.Tuned({"warps": 3}, 1e-6, {"warps": 4}, 2e-6, "", SOFTWARE)
    gone = store.Tuned({"wraps": 3}, 1e-6, {"warps": 4}, 2e-6, "", SOFTWARE)
    store.merge(Path("baselines"), "nvidia-h200", kernel, {"rows-256": entry, "rows-512": gone})
    tune(kernel, timer=lambda call, arguments, seconds: 1e-6 if call.args[0].warps == 3 else 10e-6)
    assert {name: fields["config"] for name, fields in classes(kernel).items()} == {
        "rows-128": None,
        "rows-256": {"warps": 3},
        "rows-512": None,
    }


class GoesOn(Exception):
    """Stands for the fresh process: its command line."""


@pytest.fixture
def goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_place(command_line: list[str]) -> None:
        raise GoesOn(command_line)

    monkeypatch.setattr("perfgate.tune.lost.go_on", take_place)


def losing(warps: int, rows: int) -> Callable[..., float]:
    """Give a clock whose device is lost by one configuration of one class."""

    def timer(call: Callable[..., Any], arguments: Sequence[Any], seconds: float) -> float:
        if len(arguments[0]) == rows and call.args[0].warps == warps:  # type: ignore[attr-defined]
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return clock(call, arguments, seconds)

    return timer


@pytest.mark.usefixtures("goes_on")
def test_a_fresh_process_goes_on_without_what_lost_the_device(kernel: str) -> None:
    timer = losing(8, 256)
    lines: list[str] = []
    with pytest.raises(GoesOn) as caught:
        lines.extend(started(kernel, "--jobs", "1", "--baselines", "b", timer=timer))
    (command_line,) = caught.value.args
    assert command_line == [
        "tune",
        kernel,
        "--jobs=1",
        "--baselines=b",
        "--shapes=rows-256",
        "--shapes=rows-512",
        "--leave-out=rows-256:warps=8",
    ]
    assert lines[-2:] == [
        f"stored in b/nvidia-h200/tuning/{kernel}.json",
        f"{kernel}: rows-256: warps=8: illegal access: CUDA error: an illegal memory access was encountered\n"
        "going on without it in a fresh process",
    ]
    assert tune(*command_line[1:], timer=timer)[1:5] == [
        "[1/2] rows-256: the default stays, 10.0 us",
        "  skipped warps=8: left out",
        "[2/2] rows-512: warps=16 saves 75 % of 10.0 us",
        "  skipped warps=32: ValueError: too many warps",
    ]
    assert [path.name for path in Path("b/nvidia-h200/tuning").iterdir()] == [f"{kernel}.json"]


@pytest.mark.usefixtures("goes_on")
def test_a_class_whose_default_loses_the_device_is_an_error_at_the_end(kernel: str) -> None:
    timer = losing(4, 256)
    with pytest.raises(GoesOn) as caught:
        tune(kernel, "--budget-s", "60", timer=timer)
    (command_line,) = caught.value.args
    assert 0 < float(command_line[2].removeprefix("--budget-s=")) < 60
    with pytest.raises(PerfgateError) as ended:
        tune(*command_line[1:], timer=timer)
    assert str(ended.value) == "left out: rows-256\nNothing is stored for what was left out."
    assert sorted(classes(kernel)) == ["rows-128", "rows-512"]


@pytest.mark.usefixtures("goes_on")
def test_names_of_classes_may_hold_a_colon(kernel: str) -> None:
    source = next(Path("source").rglob("tuning.py"))
    source.write_text(source.read_text().replace('f"rows-{rows}"', '{128: "a", 256: "a:b", 512: "[c] d"}[rows]'))
    left_out = []
    for warps, rows in ((8, 256), (4, 512)):
        with pytest.raises(GoesOn) as caught:
            tune(kernel, *(f"--leave-out={each}" for each in left_out), timer=losing(warps, rows))
        given = [each for each in caught.value.args[0] if each.startswith("--leave-out=")]
        left_out.append(given[-1].removeprefix("--leave-out="))
    assert left_out == ["a:b:warps=8", "[c] d"]
    assert lost.parse(["a:b", *left_out], ["a", "a:b", "[c] d"]) == ({"a:b", "[c] d"}, {"a:b": {"warps=8"}})


def test_what_the_user_leaves_out_is_no_error(kernel: str) -> None:
    left_out = ("--leave-out", "rows-256", "--leave-out", "rows-128:warps=8")
    assert "  skipped warps=8: left out" in tune(kernel, *left_out)
    assert sorted(classes(kernel)) == ["rows-128", "rows-512"]
    assert tune(kernel, "--dry-run", *left_out)[1:] == [
        "rows-128: the default and 1 candidate",
        "  warps=4 (default)",
        "  warps=1",
        "rows-512: the default and 2 candidates",
        "  warps=4 (default)",
        "  warps=1",
        "  warps=8",
    ]


@pytest.mark.usefixtures("goes_on")
def test_a_class_that_was_lost_is_not_forgotten_when_the_device_is_lost_again(kernel: str) -> None:
    command_line: list[str] = []
    for timer in (losing(4, 128), losing(8, 512)):
        with pytest.raises(GoesOn) as caught:
            tune(*(command_line[1:] or [kernel]), timer=timer)
        (command_line,) = caught.value.args
    with pytest.raises(PerfgateError) as ended:
        tune(*command_line[1:])
    assert str(ended.value) == "left out: rows-128\nNothing is stored for what was left out."
    assert sorted(classes(kernel)) == ["rows-256", "rows-512"]


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_what_is_left_out_must_be_a_class(kernel: str, more: tuple[str, ...]) -> None:
    with pytest.raises(SettingError) as caught:
        tune(kernel, "--leave-out", "rows-1:warps=8", *more)
    assert str(caught.value) == (
        "--leave-out 'rows-1:warps=8': there is no class 'rows-1'\nhint: CLASS or CLASS:CONFIGURATION"
    )


def test_the_fresh_process_takes_the_place_of_the_one_that_lost_the_device() -> None:
    program = "from perfgate.tune import lost; print('told before'); lost.go_on(['--version'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["told before", f"perfgate {perfgate.__version__}"]


def test_the_fresh_process_finds_the_modules_that_the_one_before_found(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('found in the working folder')")
    # As the console script, which does not look there.
    command_line = [sys.executable, "-P", "-c", "from perfgate.tune import lost; lost.go_on(['--version'])"]
    done = subprocess.run(command_line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_folder_can_be_named(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFGATE_BASELINES", "by-variable")
    assert tune(kernel, "--shapes", "rows-256")[-1] == f"stored in by-variable/nvidia-h200/tuning/{kernel}.json"
    named = tune(kernel, "--shapes", "rows-256", "--baselines", "by-flag")
    assert named[-1] == f"stored in by-flag/nvidia-h200/tuning/{kernel}.json"


def test_a_damaged_file_ends_the_command_before_anything_is_timed(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(f"baselines/nvidia-h200/tuning/{kernel}.json")
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert cli.main(["tune", kernel]) == cli.FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"perfgate: {path}: it is empty\n"
        f"hint: restore it with: git checkout -- {path} (or delete it and run: perfgate tune {kernel})\n"
    )


def test_a_dry_run_lists_candidates_and_stores_nothing(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", kernel, "--dry-run", "--shapes", "rows-128"]) == cli.DONE
    assert capsys.readouterr().out.splitlines() == [
        f"{kernel} on nvidia-h200: 1 class of shapes",
        "rows-128: the default and 2 candidates",
        "  warps=4 (default)",
        "  warps=1",
        "  warps=8",
    ]
    assert not Path("baselines").exists()


def test_why_nothing_is_compiled_before_is_told_once(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = iter(["", "triton is not installed"])
    monkeypatch.setattr(command.Ahead, "problem_once", lambda self: next(problems, ""))
    lines = tune(kernel)
    assert [number for number, line in enumerate(lines) if "one at a time" in line] == [4]
    assert lines[4] == "configurations are compiled one at a time: triton is not installed"


def test_a_number_of_processes_that_makes_no_sense(kernel: str) -> None:
    with pytest.raises(SettingError) as caught:
        tune(kernel, "--jobs", "0")
    assert str(caught.value) == "--jobs must be at least 1, not 0"


def test_without_a_gpu(kernel: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("perfgate.hardware.detect", lambda: Hardware((CPU,), {}))
    assert cli.main(["tune", kernel]) == cli.FAILED
    assert capsys.readouterr().err == (
        "perfgate: perfgate tune needs a GPU, and this machine has none\n"
        "hint: list what would be tried with: perfgate tune KERNEL --dry-run\n"
    )


def test_kernels_that_cannot_be_tuned(kernel: str, tmp_path: Path) -> None:
    roots = [tmp_path / "source"]
    with pytest.raises(SettingError) as caught:
        resolve("columns", roots)
    assert str(caught.value) == (
        "there is no kernel 'columns' to tune\n"
        "Kernels are folders with a tuning.py that holds a TUNABLE, below pytest's pythonpath.\n"
        f"hint: kernels are {kernel}"
    )
    with pytest.raises(SettingError) as caught:
        resolve("columns", [])
    assert str(caught.value).endswith("hint: give an import path: perfgate tune my_kernels.rows.tuning")
    with pytest.raises(SettingError) as caught:
        resolve("json.decoder", roots)
    assert str(caught.value) == (
        "json.decoder has no TUNABLE\nhint: write TUNABLE = perfgate.tune.tunable.Tunable(...) in it"
    )
    with pytest.raises(SettingError) as caught:
        resolve("no_such.tuning", roots)
    assert str(caught.value) == (
        "no_such.tuning cannot be imported: No module named 'no_such'\nhint: pip install torch triton"
    )
    assert resolve(f"kernels_{kernel}.{kernel}.tuning", []) is resolve(kernel, roots)


def test_two_shapes_of_one_class_are_refused(kernel: str, tmp_path: Path) -> None:
    file = next(tmp_path.glob("source/*/*/tuning.py"))
    file.write_text(file.read_text().replace("(256,)", "(128,)"))
    with pytest.raises(SettingError) as caught:
        tune(kernel)
    assert str(caught.value) == (
        f"{kernel}: the shapes (128,) and (128,) are both of the class rows-128\n"
        "The second would replace what was found for the first.\n"
        "hint: leave one of them out of the kernel's shapes"
    )
