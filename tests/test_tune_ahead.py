"""Is what ``perfgate tune`` times compiled before, under the keys that it looks for, and is nothing left behind?

The process that times pretends a GPU, too, but launches with real tensors, and compiles where a GPU would launch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perfgate.static import pretend
from perfgate.static.answers import Answer, Question
from perfgate.static.processes import Gone, NoCompiler
from perfgate.static.targets import TARGETS
from perfgate.tune import ahead
from perfgate.tune.ahead import Ahead

pytest.importorskip("torch")
pytest.importorskip("triton")

ROOT = Path(__file__).parents[1]
TUNING = """
import dataclasses, os, pathlib, signal, time
import torch, triton
import triton.language as tl
from perfgate.tune.tunable import Tunable

TIMES = os.getpid() == int(os.environ.get("TIMES", "0"))
# The process that times stands for one with a GPU; the others launch on tensors of a GPU that is pretended.
DEVICE = "cpu" if TIMES else "cuda"
SCALE = tl.constexpr(2.0)

@dataclasses.dataclass(frozen=True)
class Config:
    warps: int
    tile: int

@triton.jit
def scaled(x):
    return x * SCALE

@triton.jit
def scale(x_ptr, y_ptr, bias_ptr, rows, factor, TILE: tl.constexpr, ODD: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    x = scaled(tl.load(x_ptr + offsets, mask=offsets < rows).to(tl.float32))
    if bias_ptr is not None:
        x += tl.load(bias_ptr)
    tl.store(y_ptr + offsets, x * factor + ODD, mask=offsets < rows)

def launch(config, x, bias):
    if not TIMES and config.tile == 16:
        os.kill(os.getpid(), signal.SIGSEGV)
    if not TIMES and config.tile == 32 and os.environ.get("SLOW"):
        pathlib.Path(os.environ["SLOW"]).touch()
        time.sleep(float(os.environ["SLOW_S"]))
    y = torch.empty(len(x), dtype=torch.float32, device=DEVICE)
    odd = len(x) % 2 == 1
    scale[(1,)](x, y, bias, len(x), 0.5, TILE=config.tile, ODD=odd, num_warps=config.warps)
    return y

def inputs(rows):
    memory = torch.ones(rows + 1, dtype=torch.bfloat16, device=DEVICE)
    return (memory[1:], None) if rows % 16 else (memory[:rows], torch.ones(1, device=DEVICE))

TUNABLE = Tunable(
    kernel="scale",
    shapes=lambda: [(128,), (33,), (1,)],
    shape_class=lambda rows: f"rows-{rows}",
    default=lambda rows: Config(4, 128),
    candidates=lambda rows: [Config(1, 256), Config(4, 3), Config(2, 256), Config(4, 16), Config(4, 32)],
    neighbours=lambda config, rows: [Config(2 * config.warps, 512), Config(config.warps, 512)],
    inputs=inputs,
    launch=launch,
    check=lambda expected, got: "",
)
"""
PROGRAM = """
import argparse, json, os, sys
from unittest import mock

os.environ["TIMES"] = str(os.getpid())
import torch, triton
from triton.runtime.jit import JITFunction
from perfgate.errors import PerfgateError
from perfgate.model import Device, Hardware
from perfgate.static import pretend
from perfgate.static.targets import TARGETS
from perfgate.tune import command

run = JITFunction.run
compiled, timed, lines = [], [], []

def compile_only(self, *args, grid, warmup, **kwargs):
    return run(self, *args, grid=grid, warmup=True, **kwargs)

def note(*, src, metadata, metadata_group, times, cache_hit):
    compiled.append([src.constants[(5,)], metadata["num_warps"], cache_hit])

def clock(call, arguments, seconds):
    config = call.args[0]
    timed.append([config.tile, config.warps])
    return 1 / config.tile + abs(config.warps - 4) * 1e-5

triton.knobs.compilation.listener = note
parser = argparse.ArgumentParser()
command.add_parser(parser.add_subparsers())
h200 = Device("cuda", "NVIDIA H200", "nvidia-h200", capability=(9, 0))
with (
    pretend.gpu(TARGETS["sm90"]),
    mock.patch.object(JITFunction, "run", compile_only),
    mock.patch("perfgate.hardware.detect", lambda: Hardware((h200,), {"cuda": {}})),
):
    try:
        for line in command.run(parser.parse_args(["tune", "scale_rows.tuning", *sys.argv[1:]]), timer=clock):
            lines.append(line)
    except PerfgateError as error:
        lines.append(str(error))
print(json.dumps({"lines": lines, "compiled": compiled, "timed": timed}))
"""


@dataclass(frozen=True)
class Project:
    """A kernel to be tuned.

    Attributes:
        folder: where.
        mark: in the environment of every process that is started there.
    """

    folder: Path
    mark: str

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start to tune."""
        plain = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "SLOW")}
        cache = self.folder / uuid.uuid4().hex
        own = {"PYTHONPATH": f"{ROOT}/src:{self.folder}", "TRITON_CACHE_DIR": str(cache), "MARK": self.mark}
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=self.folder,
            env={**plain, **own, **environment},
            stdout=subprocess.PIPE,
            text=True,
            # What a shell starts in the background ignores it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def tune(self, *arguments: str) -> Any:
        """Tune; give what the program tells."""
        out, _ = self.start(*arguments).communicate(timeout=300)
        return json.loads(out)

    def processes(self) -> list[int]:
        """Give the processes that live."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                marked = f"MARK={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if marked and state != "Z":
                found.append(int(folder.name))
        return found

    def wait_for_none(self) -> None:
        """Wait until no process lives; signals take a moment."""
        deadline = time.monotonic() + 20
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes live on: {left}"
            time.sleep(0.05)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Make a kernel to be tuned, and end what a failing test leaves behind."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    package = tmp_path / "scale_rows"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tuning.py").write_text(TUNING)
    made = Project(tmp_path, uuid.uuid4().hex)
    yield made
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


#: Tile and warps of what is launched: the default, candidates, neighbours of the best and of the best of these.
DEFAULT, CRASHES, ALONE = (128, 4), (16, 4), (512, 8)
LAUNCHED = {DEFAULT, (256, 1), (256, 2), CRASHES, (32, 4), (512, 4), (512, 2), ALONE}


def test_all_but_the_default_is_compiled_before_it_is_launched(project: Project) -> None:
    told = project.tune("--jobs", "2")
    assert len(told["compiled"]) == 3 * len(LAUNCHED)
    for first in range(0, len(told["compiled"]), len(LAUNCHED)):
        of_class = told["compiled"][first : first + len(LAUNCHED)]
        hits = {(tile, warps): hit for tile, warps, hit in of_class}
        assert set(hits) == LAUNCHED
        # What ends its compiling process, and what is to be timed alone, is compiled by the process that times.
        assert {launch for launch, hit in hits.items() if not hit} == {DEFAULT, CRASHES, ALONE}
    # What does not compile is skipped as ever, and nothing else is told.
    assert [line.partition(":")[0] for line in told["lines"] if line.startswith(("  ", "["))] == [
        "[1/3] rows-128",
        "  skipped warps=4 tile=3",
        "[2/3] rows-33",
        "  skipped warps=4 tile=3",
        "[3/3] rows-1",
        "  skipped warps=4 tile=3",
    ]
    assert not any("one at a time" in line for line in told["lines"])
    assert told["lines"][-1] == "stored in baselines/nvidia-h200/tuning/scale.json"
    project.wait_for_none()


def test_one_job_compiles_nothing_before(project: Project) -> None:
    told = project.tune("--jobs", "1")
    assert {(tile, warps) for tile, warps, _ in told["compiled"]} == LAUNCHED
    assert not any(hit for *_, hit in told["compiled"])


# Nobody tells the compiling processes of a process that was killed: each ends when it has compiled what it began.
@pytest.mark.parametrize(("number", "slow_s"), [(signal.SIGINT, 600), (signal.SIGKILL, 2)])
def test_an_end_amid_compilation_leaves_no_process_behind(
    project: Project, number: signal.Signals, slow_s: int
) -> None:
    slow = project.folder / "slow"
    with project.start("--jobs", "2", SLOW=str(slow), SLOW_S=str(slow_s)) as process:
        deadline = time.monotonic() + 120
        while not slow.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        # This one, the one that starts others, and at least one that compiles.
        assert len(project.processes()) >= 3
        process.send_signal(number)
        try:
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    if number is signal.SIGINT:
        assert json.loads(out)["lines"][-1].startswith("interrupted: 0 of 3 classes were tuned")
    project.wait_for_none()


@dataclass(frozen=True)
class Config:
    """A pretended launch."""

    warps: int


class Processes:
    """Processes that answer as they are told to, and count what they are asked."""

    def __init__(self, answer: Answer | Exception) -> None:
        self.answer = answer
        self.asked: list[Question] = []
        self.ended = False

    def child(self, target: str) -> Processes:
        """Start one."""
        assert target == "sm90"
        return self

    def ask(self, questions: Sequence[Question], patience_s: float) -> list[Answer]:
        """Answer."""
        self.asked += questions
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * len(questions)

    def end(self) -> None:
        """End them."""
        self.ended = True


def prepared(
    monkeypatch: pytest.MonkeyPatch,
    processes: Processes,
    *,
    configs: int = 16,
    jobs: int = 2,
    target: str = "sm90",
    keys: Collection[str] = ("key",),
) -> str:
    """Prepare a class of shapes twice; give what is told."""
    monkeypatch.setattr(ahead, "Parent", lambda: processes)
    wanted = [Config(warps) for warps in range(configs)]
    with pretend.gpu(TARGETS[target]), Ahead("rows", jobs, 1) as prepares:
        prepares.prepare("rows-128", Config(99), keys, wanted)
        prepares.prepare("rows-128", Config(99), keys, wanted)
        problem = prepares.problem_once()
        assert prepares.problem_once() == ""
    assert processes.ended
    return problem


COMPILED = Answer("compiled", code={"key": "", "another": ""})


def test_the_default_is_compiled_once_to_compare_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(COMPILED)
    assert prepared(monkeypatch, processes) == ""
    asked = [json.loads(question.launch) for question in processes.asked]
    assert sorted(each["config"]["warps"] for each in asked) == sorted([*range(16), *range(16), 99])
    h200 = TARGETS["sm90"]
    assert asked[0]["card"] == {
        "model": h200.model,
        "multiprocessors": h200.multiprocessors,
        "memory_bytes": h200.memory_bytes,
        "l2_bytes": h200.l2_bytes,
    }


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (NoCompiler("triton is not installed"), "triton is not installed"),
        (Gone("the compiler ended its process with SIGSEGV"), "the compiler ended its process with SIGSEGV"),
        (OSError("no processes left"), "OSError: no processes left"),
        (Answer("failed", "ValueError: no such rows"), "ValueError: no such rows"),
        (Answer("compiled", code={"other": ""}), "processes without a GPU compile something else than is launched"),
    ],
)
def test_what_cannot_be_compiled_before_is_told_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, answer: Answer | Exception, told: str
) -> None:
    processes = Processes(answer)
    assert prepared(monkeypatch, processes) == told
    assert len(processes.asked) <= 17


def test_configurations_that_do_not_compile_are_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that times tells why, as always; all others go on being compiled before."""
    processes = Processes(COMPILED)
    monkeypatch.setattr(ahead, "Parent", lambda: processes)
    with pretend.gpu(TARGETS["sm90"]), Ahead("rows", 2, 1) as prepares:
        prepares.prepare("rows-128", Config(99), ("key",), [Config(warps) for warps in range(16)])
        processes.answer = Answer("failed", "ValueError: arange's range must be a power of 2")
        prepares.prepare("rows-128", Config(99), ("key",), [Config(3), Config(5)])
        processes.answer = COMPILED
        prepares.prepare("rows-256", Config(99), ("key",), [Config(6), Config(7)])
        assert prepares.problem_once() == ""
    assert len(processes.asked) == 17 + 2 + 3


def test_a_default_of_which_one_kernel_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    told = prepared(monkeypatch, Processes(COMPILED), keys=("key", "of another kernel"))
    assert told == "processes without a GPU compile something else than is launched"


def test_a_gpu_that_is_no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(COMPILED)
    monkeypatch.setattr(ahead, "of_device", lambda backend, arch: None)
    assert prepared(monkeypatch, processes) == "LookupError: cuda 90 is no target of the static gate"
    assert processes.asked == []


@pytest.mark.parametrize(("configs", "jobs"), [(11, 2), (16, 1), (1, 2)])
def test_processes_are_not_started_for_nothing(monkeypatch: pytest.MonkeyPatch, configs: int, jobs: int) -> None:
    processes = Processes(COMPILED)
    assert prepared(monkeypatch, processes, configs=configs, jobs=jobs) == ""
    assert processes.asked == []
