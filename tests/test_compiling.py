"""Does Triton compile the kernels of a case at once, and does the case show that it goes on meanwhile?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perf_workloads.compiling import compiled_kernels_shown

triton = pytest.importorskip("triton")
knobs = triton.knobs

ROOT = Path(__file__).resolve().parents[1]
CASE = """
import pytest
from perfgate import fixture, progress

ticks = iter(range(0, 100, 3))

class Clocked(progress.Progress):
    def __init__(self, config):
        super().__init__(config, clock=lambda: next(ticks))

fixture.Progress = Clocked

@pytest.fixture
def torch():
    return None

def first_call():
    from triton import knobs
    for number in range(5):
        if knobs.compilation.listener is not None:
            knobs.compilation.listener(metadata={{"name": f"kernel_{{number}}"}}, src=None)

{marks}
def test_first_call({fixture}):
    first_call()
"""


def compile_kernel(folder: Path) -> None:
    """Compile a kernel ahead of time, as a first call does, or load it."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    file = folder / "copying.py"
    file.write_text(
        "import triton\nimport triton.language as tl\n\n\n"
        "@triton.jit\ndef copy_kernel(x, y):\n    tl.store(y, tl.load(x))\n",
        encoding="utf-8",
    )
    namespace: dict[str, object] = {}
    sys.path.insert(0, str(folder))
    try:
        exec("from copying import copy_kernel", namespace)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("copying")
    source = ASTSource(namespace["copy_kernel"], {"x": "*fp32", "y": "*fp32"})
    triton.compile(source, target=GPUTarget("cuda", 90, 32))


#: In a process of its own: tests of kernels, in the same one, have Triton interpret what it would compile.
TOLD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_compiling import compile_kernel, compiled_kernels_shown, knobs
before = knobs.compilation.listener
with compiled_kernels_shown(print):
    compile_kernel(Path(sys.argv[2]))
    compile_kernel(Path(sys.argv[2]))
assert knobs.compilation.listener is before
"""


def test_kernels_are_told_as_triton_compiles_them(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", TOLD, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = [f"{number} kernels compiled or loaded, the last one copy_kernel" for number in (1, 2)]
    assert done.stdout.splitlines() == shown


#: Three configurations, of which the second does not compile, tried by a clock that calls nothing.
AUTOTUNED = """
import threading
import torch
import triton
import triton.language as tl
from triton.runtime.jit import MockTensor
from perf_workloads.compiling import configurations_compiled_together
from perfgate.static import pretend
from perfgate.static.targets import TARGETS

happened = []

def tried(call, quantiles):
    happened.append("tried")
    return [float(len(happened))] * 3

CONFIGS = [triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 17}), triton.Config({"BLOCK": 32})]

@triton.autotune(CONFIGS, key=["count"], do_bench=tried)
@triton.jit
def copy_kernel(x, y, count, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < count), mask=at < count)

def compiled(**others):
    happened.append("here" if threading.current_thread() is threading.main_thread() else "in a thread")

triton.knobs.compilation.listener = compiled
x = MockTensor(torch.float32)
with pretend.gpu(TARGETS["sm90"]), configurations_compiled_together(THREADS):
    copy_kernel.run(x, x, 7, grid=(1,), warmup=True)
    copy_kernel.run(x, x, 7, grid=(1,), warmup=True)
print(*happened, copy_kernel.best_config.kwargs, sep=", ")
"""


@pytest.mark.parametrize(
    ("threads", "happened"),
    [(2, "in a thread, in a thread, tried, tried, tried"), (1, "tried, tried, tried, here")],
)
def test_configurations_are_compiled_before_the_first_is_tried(tmp_path: Path, threads: int, happened: str) -> None:
    """Once, those that compile: the others fail when they are tried."""
    file = tmp_path / "autotuned.py"
    file.write_text(AUTOTUNED.replace("THREADS", str(threads)), encoding="utf-8")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == happened + ", {'BLOCK': 16}"


def test_who_listened_before_still_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    monkeypatch.setattr(knobs.compilation, "listener", lambda **told: heard.append(told))
    with compiled_kernels_shown(lambda line: None):
        knobs.compilation.listener(metadata={"name": "a"}, cache_hit=True)
    assert heard == [{"metadata": {"name": "a"}, "cache_hit": True}]


def test_nothing_is_told_where_triton_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with compiled_kernels_shown(pytest.fail):
        pass


@pytest.mark.parametrize(
    ("marks", "fixture", "kernels"),
    [("", "benchmark", (1, 3)), ("@pytest.mark.cpu", "benchmark", ()), ("", "", ())],
    ids=["gpu", "cpu", "no benchmark"],
)
def test_cases_of_a_gpu_show_them(
    pytester: pytest.Pytester, marks: str, fixture: str, kernels: tuple[int, ...]
) -> None:
    """One line every five seconds: here a kernel is compiled every three."""
    shutil.copy(ROOT / "perf_tests" / "linear_attention" / "conftest.py", pytester.path)
    pytester.makepyfile(CASE.format(marks=marks, fixture=fixture))
    ran = pytester.runpytest_subprocess("-W", "ignore:Benchmark fixture was not used")
    ran.assert_outcomes(passed=1)
    lines = [line for line in ran.outlines if "kernel_" in line]
    assert [line.partition("test_first_call: ")[2] for line in lines] == [
        f"{number + 1} kernels compiled or loaded, the last one kernel_{number}" for number in kernels
    ]
