"""Which file holds the baseline of a case?

The case ``perf_tests/a/test_x.py::test_y[z]`` on the hardware ``nvidia-h200`` is the entry ``test_y[z]`` of
``baselines/nvidia-h200/perf_tests/a/test_x.json``. The folder ``baselines/nvidia-h200/tuning`` holds what
``perfgate tune`` found and ``calibration`` what ``perfgate calibrate`` measured; no test owns these. Node ids and keys
come from outside, so a path that would leave the folder of its key is refused.
"""

from __future__ import annotations

import os
from pathlib import Path

from perfgate.errors import BaselineError

_SUFFIX = ".json"
#: The folder below a key's that holds tuned configurations.
TUNING = "tuning"
#: The folder below a key's that holds measured false-alarm rates.
CALIBRATION = "calibration"


def split_node_id(node_id: str) -> tuple[str, str]:
    """Split a pytest node id into its module, without ``.py``, and the name of the case inside it.

    Raises:
        BaselineError: the node id names a whole file.
    """
    module, separator, case = node_id.partition("::")
    if not (separator and case):
        raise BaselineError(
            f"{_shown(node_id)} does not name a test",
            "A baseline belongs to one test of one module.",
            "give a node id such as perf_tests/test_x.py::test_y",
        )
    return module.removesuffix(".py"), case


def baseline_path(root: Path, key: str, module: str) -> Path:
    """Give the path of a module's baseline file.

    Args:
        root: the folder of all baselines.
        key: the hardware key.
        module: the path of the test module with ``/``, relative to pytest's rootdir, with or without ``.py``.

    Raises:
        BaselineError: the key or the module cannot be a path below the root.
    """
    if "/" in key or key.startswith(".") or (fault := _fault(key)):
        fault = "it contains a slash" if "/" in key else "it starts with a dot" if key.startswith(".") else fault
        raise BaselineError(
            f"the hardware key {_shown(key)} cannot name a folder of baselines: {fault}",
            "The baselines of one kind of hardware lie in the folder baselines/<key>.",
            "see the key of this machine with: perfgate hardware",
        )
    parts = module.removesuffix(".py").split("/")
    fault = "it is absolute" if module.startswith("/") else next(filter(None, map(_fault, parts)), "")
    if fault:
        raise BaselineError(
            f"the test module {_shown(module)} cannot have a baseline file: {fault}",
            "The baselines of a module lie at baselines/<key>/<path of the module below pytest's rootdir>.",
            "run pytest with --rootdir set to a folder that contains the tests",
        )
    return root.joinpath(key, *parts[:-1], parts[-1] + _SUFFIX)


def module_of(folder: Path, path: Path) -> str | None:
    """Give the module that a file below a key's folder belongs to, or None for a file that holds no baselines."""
    relative = path.relative_to(folder).as_posix()
    if relative.startswith((f"{TUNING}/", f"{CALIBRATION}/")):
        return None
    return relative.removesuffix(_SUFFIX) if relative.endswith(_SUFFIX) and path.name != _SUFFIX else None


def display_path(path: Path) -> str:
    """Give a path as a user would type it: relative to the working directory where it lies below it."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return str(path)


def _fault(part: str) -> str:
    """Say why one part of a path is refused; empty when it is fine."""
    if part == "..":
        return 'it contains ".."'
    if part in ("", "."):
        return "it has an empty part"
    if any(not char.isprintable() or char in "\\:" for char in part):
        return "it contains a backslash, a colon or an unprintable character"
    try:
        os.fsencode(part)
    except UnicodeEncodeError:
        return "it cannot be encoded as a file name"
    return ""


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 200 else text[:200] + "...")
