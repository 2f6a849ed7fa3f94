"""Does a case show that it goes on while Triton compiles its kernels?"""

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
