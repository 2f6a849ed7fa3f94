"""What does a kernel's code depend on that the key of Triton's cache leaves out? Heavy: imports triton.

The key has the source of a kernel and of everything it calls, and the constants that these name. Changed otherwise is
what they reach through a module (``sizes.TILE``) and what functions for constants read (``triton.constexpr_function``):
the cache would go on giving code of before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from triton.language.core import constexpr, dtype
from triton.runtime.jit import JITFunction

_COMPLETE = "_perfgate_complete_key"
_PLAIN = (bool, int, float, complex, str, bytes, type(None), dtype)


def complete(kernel: JITFunction) -> None:
    """Add the values of all constants that a kernel reaches to its key, once in a process."""
    if not hasattr(kernel, _COMPLETE):
        told = "\n".join([kernel.cache_key, *_constants(kernel, set())])
        kernel.hash = hashlib.sha256(told.encode()).hexdigest()
        setattr(kernel, _COMPLETE, True)


def _constants(function: Any, seen: set[int]) -> Iterator[str]:
    """Give the constants that a function reads, and all that it calls, each with its name."""
    plain = getattr(function, "fn", function)
    if id(plain) in seen or not isinstance(plain, FunctionType):
        return
    seen.add(id(plain))
    names = list(dict.fromkeys(_names(plain.__code__)))
    for name in names:
        value = plain.__globals__.get(name)
        if not isinstance(value, ModuleType):
            yield from _told(name, value, seen)
        elif not _is_known(value.__name__):
            for attribute in names:
                yield from _told(f"{name}.{attribute}", getattr(value, attribute, None), seen)


def _told(name: str, value: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(value, constexpr):
        value = value.value
    if _is_plain(value):
        yield f"{name} {value!r}"
    elif not _is_known(getattr(value, "__module__", None) or ""):
        yield from _constants(value, seen)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _is_known(module: str) -> bool:
    """Whether the key has all of a module: it is Triton's own."""
    return module.partition(".")[0] == "triton"


def _names(code: CodeType) -> Iterator[str]:
    """Give the names of globals and attributes in a function and those inside of it."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)
