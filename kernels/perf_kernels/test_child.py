"""Does a forked program run as one that was started: its arguments, what it prints, and however it ends?"""

from __future__ import annotations

import signal
import subprocess

import pytest

from perf_kernels.child import run

TELL = """
import os, sys
print(sys.argv[1:], os.environ.get("TRITON_INTERPRET"), __name__)
sys.stderr.write("and this")
"""


@pytest.mark.parametrize(("interpret", "variable"), [(True, "1"), (False, "None")])
def test_arguments_and_output(interpret: bool, variable: str) -> None:
    done = run(TELL, 7, "b c", interpret=interpret)
    told = f"['7', 'b c'] {variable} __main__\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "and this")


def test_programs_share_nothing() -> None:
    assert run("import torch; torch.shared = 1; print(torch.shared)", interpret=True).stdout == "1\n"
    assert run("import torch; print(hasattr(torch, 'shared'))", interpret=True).stdout == "False\n"


def test_errors_are_told() -> None:
    done = run("print('before', flush=True)\nassert 1 == 2, 'no'", interpret=True)
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert done.stderr.endswith("AssertionError: no\n")


def test_a_program_that_dies_takes_no_other_with_it() -> None:
    assert run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", interpret=True).returncode == -signal.SIGSEGV
    assert run("print('alive')", interpret=True).stdout == "alive\n"


def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run("import time; time.sleep(60)", interpret=True, timeout_s=1)
    assert run("print('alive')", interpret=True).stdout == "alive\n"
