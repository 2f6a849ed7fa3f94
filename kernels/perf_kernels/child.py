"""How does a test run a program in a process of its own, interpreted or compiled?

Programs are forked from a process that has imported torch and Triton, which takes longer than most run; there is one
for those that are interpreted and one for the others.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1]

#: Runs the programs that it is told of, a line each, and answers with how they ended.
_TEMPLATE = """
import json, os, sys, traceback
import torch, triton.runtime.interpreter

def run(program, arguments, folder):
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        code = run(*json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def run(program: str, *arguments: object, interpret: bool, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a Python program without a GPU; it can import ``perf_kernels``.

    Args:
        program: source text.
        arguments: ``sys.argv[1:]``, as text.
        interpret: kernels run in Triton's interpreter; otherwise they can only be compiled.
        timeout_s: seconds until ``subprocess.TimeoutExpired`` is raised.
    """
    return _forked(program, [str(argument) for argument in arguments], interpret, timeout_s)


def _environment(**more: str) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    own = {"PYTHONPATH": str(KERNELS), "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    return {**environment, **own, **more}


def _forked(program: str, arguments: list[str], interpret: bool, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Have the template run a program."""
    template = _template(interpret)
    assert template.stdin is not None
    assert template.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        template.stdin.write(json.dumps([program, arguments, folder]) + "\n")
        template.stdin.flush()
        ready, _, _ = select.select([template.stdout], [], [], timeout_s)
        if not ready:
            os.killpg(template.pid, signal.SIGKILL)
            _template.cache_clear()
            raise subprocess.TimeoutExpired(["python", "-c", program, *arguments], timeout_s)
        code = int(template.stdout.readline())
        told = (Path(folder, name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(["python", "-c", program, *arguments], code, *told)


@functools.cache
def _template(interpret: bool) -> subprocess.Popen[str]:
    """Start the process that imports torch and Triton; it ends with this one."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _TEMPLATE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(**{"TRITON_INTERPRET": "1"} if interpret else {}),
        text=True,
        start_new_session=True,
    )
