"""Does a launcher refuse its target, or did it fail by accident? Heavy: imports torch and triton.

Both are a ``ValueError`` or ``NotImplementedError``. A refusal is raised by the launcher's own code or by a library of
kernels: not by Python, its standard library, torch, Triton, perfgate or an installed package that imports no Triton,
which a mistaken launcher gives what they cannot take. And it says why: a method that a class left to others raises
``NotImplementedError`` alone.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType, ModuleType

import torch
import triton

import perfgate

#: What a launcher may refuse a target with.
REFUSALS = (ValueError, NotImplementedError)

_LIBRARIES = tuple(Path(module.__path__[0]).resolve() for module in (torch, triton, perfgate))
_STANDARD = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})
#: Folders of installed packages, which may lie in that of the standard library.
_INSTALLED = ("site-packages", "dist-packages")


def is_refusal(error: BaseException) -> bool:
    """Tell whether an error was raised to refuse a target: a shape unpacked to too many names is a ValueError, too."""
    if not isinstance(error, REFUSALS) or not str(error).strip():
        return False
    frames: list[FrameType] = []
    instruction = 0
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        # Where it was raised: the frame itself may have gone on to a ``finally``.
        instruction = trace.tb_lasti
        trace = trace.tb_next
    frame = frames.pop()
    if dis.opname[frame.f_code.co_code[instruction]] != "RAISE_VARARGS":
        return False
    # ``torch._check_value`` and its like raise for the one who calls them.
    while frames and _is_check(frame.f_code):
        frame = frames.pop()
    return not _is_library(frame.f_code.co_filename, str(frame.f_globals.get("__name__", "")))


def _is_check(code: CodeType) -> bool:
    return code.co_name.startswith("_check") and Path(code.co_filename).resolve() == _LIBRARIES[0] / "__init__.py"


def _is_library(file: str, module: str) -> bool:
    """Tell whether a module belongs to torch, Triton, perfgate, the standard library or a package without kernels.

    Args:
        file: of the module; parts of the standard library are frozen and have none.
        module: its name.
    """
    path = Path(file).resolve()
    if file.startswith("<frozen ") or any(path.is_relative_to(library) for library in _LIBRARIES):
        return True
    if set(_INSTALLED) & set(path.parts):
        return not _imports_triton(module.partition(".")[0])
    return any(path.is_relative_to(library) for library in _STANDARD)


def _imports_triton(package: str) -> bool:
    """Tell whether a module of a package that was imported has Triton or a part of it, such as its language."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == package]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, ModuleType)]
    return any(each.__name__.partition(".")[0] == "triton" for each in found)
