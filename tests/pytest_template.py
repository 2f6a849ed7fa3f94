"""What does each pytest of these tests begin as? A copy of this process, which has made the imports that take longest.

Run as a program, it reads one order a line, forks, and answers with how the copy ended: what a fresh process does that
was started with ``python -m pytest``. Neither perfgate nor pytest-benchmark is imported here: pytest rewrites plugins
while it imports them, and the gate looks at ``sys.path`` as it was at the start. It ends with its standard input.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import time
import warnings

import numpy  # noqa: F401
import scipy.special  # noqa: F401
from _pytest.config import default_plugins


def become(
    arguments: list[str], folder: str, environment: dict[str, str], outputs: list[str], ignored: list[int]
) -> None:
    """Turn this process into one that was started with these arguments and variables in a folder.

    Args:
        arguments: of pytest.
        folder: the working folder.
        environment: all variables; those that an interpreter reads as it starts are the template's.
        outputs: files for standard output and standard error.
        ignored: signals.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else usual)
    for number, name in enumerate((os.devnull, *outputs)):
        opened = os.open(name, os.O_WRONLY | os.O_TRUNC if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["-m", *arguments]
    entries = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # In place of this file's folder.
    sys.path[:1] = [os.getcwd(), *dict.fromkeys(map(os.path.abspath, entries))]


def main() -> None:
    """Fork a pytest for each order."""
    for name in default_plugins:
        importlib.import_module(f"_pytest.{name}")
    # What is imported is no garbage: no copy has to look through it.
    gc.freeze()
    for line in sys.stdin:
        with warnings.catch_warnings():
            # The threads of NumPy's BLAS library end well in a copy.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            become(*json.loads(line))
            runpy.run_module("pytest", run_name="__main__", alter_sys=True)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
