"""Does Triton compile the kernels of a case at once, and does the case show that it goes on meanwhile?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perf_workloads.compiling import _finish, compiled_kernels_shown

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


#: Three configurations, of which the second does not compile. Launches are warm-ups.
AUTOTUNED = """
import threading
import torch
import triton
import triton.language as tl
from triton.runtime.jit import JITFunction, MockTensor
from perf_workloads.compiling import configurations_compiled_together
from perfgate.static import pretend
from perfgate.static.targets import TARGETS

happened = []

def tried(call, quantiles):
    happened.append("tried")
    call()
    return [float(len(happened))] * 3

def hook(arguments):
    pass

def fewer(configs, arguments, **others):
    return [triton.Config(dict(each.kwargs)) for each in configs if each.kwargs["BLOCK"] < 20]

def launch(self, *args, grid, warmup, **kwargs):
    return original(self, *args, grid=grid, warmup=True, **kwargs)

original, JITFunction.run = JITFunction.run, launch
devices = set()
pretend.PretendedDriver.get_current_device = lambda self: 1
pretend.PretendedDriver.set_current_device = lambda self, device: devices.add(device)
CONFIGS = [triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 17}), triton.Config({"BLOCK": 32}HOOK)]

@triton.autotune(CONFIGS, key=["count"], do_bench=tried, prune_configs_by=PRUNED)
@triton.jit
def copy_kernel(x, y, count, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK != 17)
    at = tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < count), mask=at < count)

def compiled(**others):
    happened.append("here" if threading.current_thread() is threading.main_thread() else "in a thread")

triton.knobs.compilation.listener = compiled
x = MockTensor(torch.float32)
with pretend.gpu(TARGETS["sm90"]), configurations_compiled_together(THREADS):
    copy_kernel[(1,)](x, x, 7)
    copy_kernel[(1,)](x, x, 7)
    print(*happened, copy_kernel.best_config.kwargs, sep=", ")
print(*devices)
"""
ONE_BY_ONE = "tried, here, tried, tried, here"


@pytest.mark.parametrize(
    ("threads", "hook", "pruned", "happened"),
    [
        (2, "", "None", "in a thread, in a thread, tried, tried, tried"),
        (2, "", "{'early_config_prune': fewer}", "in a thread, tried, tried"),
        (2, ", pre_hook=hook", "None", ONE_BY_ONE),
        (1, "", "None", ONE_BY_ONE),
    ],
    ids=["all", "pruned", "hook", "one thread"],
)
def test_configurations_are_compiled_before_the_first_is_tried(
    tmp_path: Path, threads: int, hook: str, pruned: str, happened: str
) -> None:
    """Once, those that compile: the others fail when they are tried."""
    file = tmp_path / "autotuned.py"
    code = AUTOTUNED.replace("THREADS", str(threads)).replace("HOOK", hook).replace("PRUNED", pruned)
    file.write_text(code, encoding="utf-8")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Threads take the device of who calls.
    assert done.stdout.splitlines() == [happened + ", {'BLOCK': 16}", "1" if "in a thread" in happened else ""]


def test_what_has_not_begun_when_compiling_is_interrupted_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def first() -> None:
        begun.set()
        assert interrupted.wait(10)

    interrupted, later = threading.Event(), []
    with ThreadPoolExecutor(1) as pool:
        compiling = [pool.submit(first), pool.submit(lambda: later.append(1))]
        assert begun.wait(10)

        def interrupt(futures: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("perf_workloads.compiling.wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _finish(compiling)
        interrupted.set()
    assert (compiling[1].cancelled(), later) == (True, [])


@pytest.mark.parametrize(("marks", "together"), [("", True), ("@pytest.mark.cpu", False)])
def test_cases_of_a_gpu_compile_together(pytester: pytest.Pytester, marks: str, together: bool) -> None:
    shutil.copy(ROOT / "perf_tests" / "linear_attention" / "conftest.py", pytester.path)
    pytester.makepyfile(
        f"""
        import pytest
        from perfgate.hardware import sources
        from triton.runtime.autotuner import Autotuner

        sources.affinity = lambda: 2
        untouched = Autotuner._bench

        @pytest.fixture
        def torch():
            return None

        {marks}
        def test_first_call(benchmark):
            assert (Autotuner._bench is not untouched) is {together}
        """
    )
    ran = pytester.runpytest_subprocess("-W", "ignore:Benchmark fixture was not used")
    ran.assert_outcomes(passed=1)


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
