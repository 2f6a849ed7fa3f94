"""Does a kernel compute an address in 32 bits that can pass 2**31? Runs it at a real size without a GPU.

What can be read off the compiled kernel is checked by the static gate (``perfgate.static.index_width``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


@contextlib.contextmanager
def interpreted(programs: Sequence[int], grid: int) -> Iterator[None]:
    """Let the interpreter run only some programs of a one-dimensional grid, and raise where an i32 overflows.

    Memory of a real shape is committed only where the chosen programs touch it. Without the check a wrapped address
    ends the process with SIGSEGV: call this in a child process.

    Args:
        programs: the programs to run.
        grid: programs in the whole grid; no loop of the interpreter's own may have this length.
    """
    from triton.runtime import interpreter

    def chosen(*bounds: Any) -> Iterable[int]:
        # Triton 3.6.0 gives a kernel's own loops bounds that today's numpy does not take as an index.
        numbers = tuple(int(bound.handle.data.item()) if hasattr(bound, "handle") else bound for bound in bounds)
        return programs if numbers == (grid,) else range(*numbers)

    options: Any = interpreter.interpreter_builder.options
    before = options.debug
    # A frozen dataclass; neither the environment nor jit(debug=True) reaches it.
    object.__setattr__(options, "debug", True)
    interpreter.range = chosen
    try:
        yield
    finally:
        del interpreter.range
        object.__setattr__(options, "debug", before)
