"""Results do not depend on where rows lie: every kernel, in Triton's interpreter, rows up to 2**31 elements apart."""

from __future__ import annotations

import importlib.util
import subprocess

import pytest

from perf_kernels.child import KERNELS, run
from perf_kernels.distant import CALLS, CONTIGUOUS

EXAMPLES = 8
CHECK = """
import sys
from perf_kernels.distant import check
from perf_kernels.interpreter import round_as_a_gpu

round_as_a_gpu()
check(sys.argv[1], int(sys.argv[2]))
print("equal bits")
"""


def checked(kernel: str) -> subprocess.CompletedProcess[str]:
    done = run(CHECK, kernel, EXAMPLES, interpret=True)
    if "only 0-dimensional arrays can be converted" in done.stderr:
        # Triton 3.6.0 with numpy 2.5: a loop up to a number that is no constant.
        pytest.skip("the interpreter of this Triton does not work with this numpy")
    return done


@pytest.mark.parametrize("kernel", sorted(CALLS))
def test_bits_do_not_depend_on_the_distance(kernel: str) -> None:
    done = checked(kernel)
    assert (done.returncode, done.stdout) == (0, "equal bits\n"), done.stderr[-3000:]


def test_every_kernel_is_checked_here_or_has_nothing_to_check() -> None:
    folders = {path.parent.name for path in KERNELS.glob("perf_kernels/*/specialisations.py")}
    assert {*CALLS, *CONTIGUOUS} == folders
    assert all(importlib.util.find_spec(place) for place in CONTIGUOUS.values())


def test_the_naive_twin_is_caught() -> None:
    done = checked("naive")
    # It reads what it should not, and dies, or gives other bits.
    assert done.returncode < 0 or "AssertionError" in done.stderr, done.stderr[-3000:]
