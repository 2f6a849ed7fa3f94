"""What may a launcher ask of a compiled kernel that no GPU has loaded? Heavy: imports triton.

Triton's own softmax warms its kernel up, reads the registers that it takes, and launches what it got.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from triton.compiler.compiler import CompiledKernel

from perfgate.static import reading
from perfgate.static.targets import Target


@contextlib.contextmanager
def answered(target: Target, launched: Callable[[Any], None]) -> Iterator[None]:
    """Let compiled kernels tell their registers and spills without being loaded, and be launched.

    Args:
        target: the GPU that they are to run on.
        launched: is called with each that is launched.
    """

    def load(self: Any) -> None:
        figures = reading.figures_of(self, target)
        self.n_regs, self.n_spills = figures.code.registers, figures.code.spills
        self.n_max_threads = 1024

    def launcher(self: Any, grid: Any) -> Callable[..., None]:
        return lambda *args, stream=None: launched(self)

    with (
        mock.patch.object(CompiledKernel, "_init_handles", load),
        mock.patch.object(CompiledKernel, "__getitem__", launcher),
    ):
        yield
