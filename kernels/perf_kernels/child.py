"""How does a test run a program in a process of its own, interpreted or compiled?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1]


def run(program: str, *arguments: object, interpret: bool, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a Python program without a GPU; it can import ``perf_kernels``.

    Args:
        program: source text.
        arguments: ``sys.argv[1:]``, as text.
        interpret: kernels run in Triton's interpreter; otherwise they can only be compiled.
        timeout_s: seconds until ``subprocess.TimeoutExpired`` is raised.
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(KERNELS), "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-P", "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
