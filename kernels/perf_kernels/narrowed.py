"""What does a kernel look like with 32-bit offsets? A deliberate mistake that the index checks must catch.

Beside the naive twins that are written out, for kernels too long to be written twice.
"""

from __future__ import annotations

import contextlib
import inspect
import linecache
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any
from unittest.mock import patch


@contextlib.contextmanager
def narrowed(module: ModuleType, *kernels: str) -> Iterator[None]:
    """Let a launcher launch kernels with every 64-bit number of their own bodies in 32 bits.

    Args:
        module: the module that launches them, by their names there.
        kernels: names of the kernels.
    """
    with contextlib.ExitStack() as changed:
        for name in kernels:
            changed.enter_context(patch.object(module, name, _narrow(getattr(module, name).fn)))
        yield


def _narrow(function: FunctionType) -> Any:
    """Define a kernel once more, from its source."""
    source = inspect.getsource(function)
    assert "tl.int64" in source, f"{function.__qualname__} has no 64-bit number"
    place = f"<{function.__module__}.{function.__qualname__} in 32 bits>"
    source = source.replace("tl.int64", "tl.int32")
    # Triton reads a kernel's source.
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    defined: dict[str, Any] = dict(function.__globals__)
    exec(compile(source, place, "exec"), defined)
    return defined[function.__name__]
