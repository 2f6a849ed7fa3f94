"""Is a kernel compiled again when something changes that it takes from a module beside its own?"""

from __future__ import annotations

from pathlib import Path

import pytest

from perf_kernels.child import run

HELPERS = """
import triton
import triton.language as tl

_FACTOR = tl.constexpr(3)

@triton.jit
def scaled(x):
    return x * _FACTOR

@triton.jit
def twice_scaled(x):
    return scaled(x) + scaled(x)
"""
KERNEL = """
import triton
import triton.language as tl
from helpers import twice_scaled

@triton.jit
def kernel(x_ptr):
    tl.store(x_ptr, twice_scaled(tl.load(x_ptr)))
"""
#: Prints the kernel's part of the key that compiled code is cached under; the static gate has no other cache.
KEY = """
import sys
sys.path.insert(0, sys.argv[1])
from kernels_of_a_test import kernel
print(kernel.cache_key)
"""


def key(folder: Path) -> str:
    done = run(KEY, folder, interpret=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [("x * _FACTOR", "x + 1 + _FACTOR"), ("tl.constexpr(3)", "tl.constexpr(14)")],
    ids=["code", "value"],
)
def test_a_changed_helper_of_a_helper_makes_another_kernel(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "kernels_of_a_test.py").write_text(KERNEL)
    (tmp_path / "helpers.py").write_text(HELPERS)
    first = key(tmp_path)
    assert key(tmp_path) == first
    (tmp_path / "helpers.py").write_text(HELPERS.replace(before, after))
    assert key(tmp_path) != first
