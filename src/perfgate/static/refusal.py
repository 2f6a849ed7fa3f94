"""Does a launcher refuse its target, or did it fail by accident? Heavy: imports torch and triton.

Both are a ``ValueError`` or ``NotImplementedError``. A refusal is raised by the launcher's own code or by a library of
kernels: not by Python, its standard library, torch, Triton or perfgate, which a mistaken launcher gives what they
cannot take. And it says why: a method that a class left to others raises ``NotImplementedError`` alone.
"""

from __future__ import annotations

import dis
import sysconfig
from pathlib import Path
from types import CodeType

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
    codes: list[CodeType] = []
    instruction = 0
    trace = error.__traceback__
    while trace is not None:
        codes.append(trace.tb_frame.f_code)
        # Where it was raised: the frame itself may have gone on to a ``finally``.
        instruction = trace.tb_lasti
        trace = trace.tb_next
    code = codes.pop()
    if dis.opname[code.co_code[instruction]] != "RAISE_VARARGS":
        return False
    # ``torch._check_value`` and its like raise for the one who calls them.
    while codes and _is_check(code):
        code = codes.pop()
    return not _is_library(code.co_filename)


def _is_check(code: CodeType) -> bool:
    return code.co_name.startswith("_check") and Path(code.co_filename).resolve() == _LIBRARIES[0] / "__init__.py"


def _is_library(file: str) -> bool:
    """Tell whether a file belongs to torch, Triton, perfgate or the standard library, parts of which are frozen."""
    path = Path(file).resolve()
    if file.startswith("<frozen ") or any(path.is_relative_to(library) for library in _LIBRARIES):
        return True
    return any(
        path.is_relative_to(library) and not set(_INSTALLED) & set(path.relative_to(library).parts)
        for library in _STANDARD
    )
