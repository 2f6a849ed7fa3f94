"""Does a kernel compute an address in 32 bits that can pass 2**31? Runs it at a real size without a GPU.

What can be read off the compiled kernel is checked by the static gate (``perfgate.static.index_width``).
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch


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


@dataclass(frozen=True)
class Subject:
    """A kernel that quantises rows to INT8, as its offsets are checked: how it is called, and what it must give.

    Attributes:
        draw: gives values [M, ...] for rows, width, data type, device and seed.
        quantize: the launcher; takes values and ``out``.
        naive: launches the naive twin on values, codes and scales.
        reference: gives codes and scales for values.
        shape: gives the shape of the codes for rows and width.
        exact: gives values like those drawn for which the kernel and the reference must agree bit for bit.
    """

    draw: Callable[..., torch.Tensor]
    quantize: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    naive: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]
    reference: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    shape: Callable[[int, int], tuple[int, int]] = lambda rows, width: (rows, width)
    exact: Callable[[torch.Tensor], torch.Tensor] = lambda x: x


def with_a_tie(values: torch.Tensor, width: int) -> torch.Tensor:
    """Put the largest of a row into its last ``width`` columns, and half of it: 63.5 codes, a tie, for any draw.

    The scale of this one, as it is rounded, makes less than 63.5 of that half. A twin that differs from its kernel in
    its offsets alone rounds it as that does.
    """
    largest = 2.796875
    row = values[:, -width:].clamp_(-largest, largest)
    row[:, 0], row[:, 1] = largest, largest / 2
    return values


def check_last_rows(subject: Subject, twin: bool, rows: int, width: int) -> None:
    """Interpret the last two rows of a matrix, compare them with the reference, and print how much memory it took.

    Memory is committed only where it is touched: gigabytes are reserved, the last rows are used.

    Args:
        subject: the kernel.
        twin: run the naive twin in its place.
        rows: of the whole matrix.
        width: of a row.
    """
    last = range(rows - 2, rows)
    values = subject.exact(with_a_tie(subject.draw(2, width, torch.bfloat16, "cpu", 0), width))
    x = torch.empty(rows, values.shape[1], dtype=values.dtype)
    x[last.start :] = values
    q = torch.empty(subject.shape(rows, width), dtype=torch.int8)
    scale = torch.empty(len(q))
    with interpreted(last, grid=rows if twin else len(q)):
        if twin:
            subject.naive(x, q, scale)
        else:
            subject.quantize(x, out=(q, scale))
    expected_q, expected_scale = subject.reference(values)
    assert torch.equal(q[last.start : rows], expected_q[:2])
    assert torch.equal(scale[last.start : rows], expected_scale[:2])
    print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")
