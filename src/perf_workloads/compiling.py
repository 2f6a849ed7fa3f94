"""Does a first call that takes minutes show that it goes on? By the kernels that Triton compiles in it.

fla tries dozens of configurations of each kernel when it is first called with a shape, and compiles each of them. Only
what is told meanwhile can be shown: before the call nobody knows whether it will take long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def compiled_kernels_shown(progress: Callable[[str], None]) -> Iterator[None]:
    """Tell of each kernel that Triton compiles, or loads compiled, meanwhile. Where Triton is missing, none is.

    Args:
        progress: told one line a kernel; ``benchmark.progress`` shows one of them every few seconds.
    """
    try:
        from triton import knobs
    except ImportError:
        yield
        return
    earlier, number = knobs.compilation.listener, 0

    def compiled(*, metadata: dict[str, Any], **others: Any) -> None:
        nonlocal number
        number += 1
        progress(f"{number} kernels compiled or loaded, the last one {metadata['name']}")
        if earlier is not None:
            earlier(metadata=metadata, **others)

    knobs.compilation.listener = compiled
    try:
        yield
    finally:
        knobs.compilation.listener = earlier
