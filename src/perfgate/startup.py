"""Did the interpreter look for modules in the working folder when it started? ``python -m`` does, ``pytest`` does not.

The plugin imports this first, before a conftest or pytest's ``pythonpath`` changes ``sys.path``: those change it in a
child process too.
"""

from __future__ import annotations

import os
import sys


def _sees_cwd() -> bool:
    if sys.flags.safe_path or not sys.path:
        return False
    try:
        return os.path.realpath(sys.path[0] or os.curdir) == os.path.realpath(os.curdir)
    except FileNotFoundError:
        return False


#: Whether this process found modules in its working folder before those that are installed.
SEES_CWD = _sees_cwd()


def pytest_command(sees_cwd: bool = SEES_CWD) -> list[str]:
    """Give the command of a pytest that finds the modules that this process finds."""
    return module_command("pytest", sees_cwd)


def module_command(module: str, sees_cwd: bool = SEES_CWD) -> list[str]:
    """Give the command that runs a module where it finds the modules that this process finds."""
    return [sys.executable, *([] if sees_cwd else ["-P"]), "-m", module]
