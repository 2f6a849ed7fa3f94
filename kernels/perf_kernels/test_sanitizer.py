"""Does any kernel touch memory that is not its own, or race in shared memory? compute-sanitizer watches small calls."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perf_kernels.child import KERNELS, run
from perf_kernels.small_calls import CALLS

FOUND = 86
#: A tensor of 1024 floats, 1025 of which are written.
OUT_OF_BOUNDS = """
import torch, triton, triton.language as tl
@triton.jit
def one_too_many(x_ptr):
    tl.store(x_ptr + 1024 + tl.arange(0, 1), 0.0)
one_too_many[(1,)](torch.empty(1024, device="cuda"))
torch.cuda.synchronize()
"""
#: Makes the calls of some folders in Triton's interpreter and lists which kernels were launched.
LAUNCHED = """
import json, sys
from triton.runtime.interpreter import InterpretedFunction
launched, original = set(), InterpretedFunction.run
def run(kernel, *arguments, **options):
    launched.add(f"{kernel.fn.__module__}.{kernel.fn.__name__}")
    return original(kernel, *arguments, **options)
InterpretedFunction.run = run
from perf_kernels.small_calls import CALLS
for folder in sys.argv[1:]:
    for call in CALLS[folder]:
        call(device="cpu")
print(json.dumps(sorted(launched)))
"""


def sanitize(tool: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python under a tool of compute-sanitizer; a finding is exit status 86."""
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(sanitizer).exists():
        pytest.skip("compute-sanitizer is not installed: it comes with the CUDA toolkit")
    environment = os.environ | {
        # Each tensor is an allocation of its own, so that its neighbour's memory is not its own either.
        "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
        "PYTHONPATH": os.pathsep.join([str(KERNELS), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sanitizer, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, *arguments]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    if "Device not supported" in done.stdout:
        pytest.skip("compute-sanitizer does not support this device or its virtual machine")
    return done


@pytest.mark.cuda
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_clean(tool: str, tmp_path: Path) -> None:
    done = sanitize(tool, ["-m", "perf_kernels.small_calls"], tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for kernel in CALLS:
        assert f"{kernel}: {len(CALLS[kernel])} calls on cuda" in done.stdout


@pytest.mark.cuda
def test_one_element_too_many_is_found(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(OUT_OF_BOUNDS)
    done = sanitize("memcheck", ["program.py"], tmp_path)
    assert done.returncode == FOUND, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Invalid __global__ write of size 4 bytes" in done.stdout


def launched(*folders: str) -> set[str]:
    """Make the calls of some folders and give the kernels that they launch, by import path."""
    done = run(LAUNCHED, *folders, interpret=True)
    if "only 0-dimensional arrays can be converted" in done.stderr:
        # Triton 3.6.0 with numpy 2.5: a loop up to a number that is no constant.
        pytest.skip("the interpreter of this Triton does not work with this numpy")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def defined() -> set[str]:
    """Give the import paths of all kernels but the naive twins, which are deliberate mistakes."""
    return {
        ".".join((*path.relative_to(KERNELS).with_suffix("").parts, function.name))
        for path in KERNELS.glob("perf_kernels/*/*.py")
        if path.name != "naive_twin.py"
        for function in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(function, ast.FunctionDef) and function.name.endswith("_kernel")
        if any("triton.jit" in ast.unparse(decorator) for decorator in function.decorator_list)
    }


def test_every_kernel_is_called() -> None:
    folders = {path.parent.name for path in KERNELS.glob("perf_kernels/*/specialisations.py")}
    assert set(CALLS) == folders
    assert launched(*CALLS) == defined()


def test_only_launches_count() -> None:
    """Otherwise a kernel that is merely imported would pass for called."""
    assert launched("dequantize_bias") == {"perf_kernels.dequantize_bias.kernel._kernel"}
