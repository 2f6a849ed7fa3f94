"""Which launches cover every compiled form of the kernels that users get? The static gate compiles ``LAUNCHES``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

from perf_kernels.narrowed import narrowed
from perf_kernels.ternary_matmul import ops
from perf_kernels.ternary_matmul.naive_twin import ternary_matvec_naively
from perf_kernels.ternary_matmul.ops import ternary_matmul
from perf_kernels.ternary_matmul.reference import packed_bytes


def _operands(width: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    packed = torch.empty(outputs, packed_bytes(width), dtype=torch.uint8, device="cuda")
    return packed, torch.empty((), dtype=torch.float32, device="cuda")


def _launch(
    width: int, outputs: int, tokens: int, dtype: torch.dtype = torch.bfloat16, *, bias: bool = False
) -> object:
    x = torch.empty(tokens, width, dtype=dtype, device="cuda")
    added = torch.empty(outputs, dtype=dtype, device="cuda") if bias else None
    return ternary_matmul(x, *_operands(width, outputs), added)


def _naive(width: int, outputs: int) -> object:
    x = torch.empty(width, dtype=torch.bfloat16, device="cuda")
    return ternary_matvec_naively(x, *_operands(width, outputs))


def _narrow(width: int, outputs: int, tokens: int) -> object:
    with narrowed(ops, "_quantize_kernel", "_batch_kernel"):
        return _launch(width, outputs, tokens)


#: Named by inputs, outputs and tokens, and by what is special. More than one token takes two kernels.
LAUNCHES: Mapping[str, Callable[[], object]] = {
    "bf16-2560-6912-1": functools.partial(_launch, 2560, 6912, 1),
    "bf16-6912-2560-1": functools.partial(_launch, 6912, 2560, 1),
    "bf16-18944-3584-1-wide": functools.partial(_launch, 18944, 3584, 1),
    "bf16-6912-2560-8": functools.partial(_launch, 6912, 2560, 8),
    "bf16-6912-2560-64": functools.partial(_launch, 6912, 2560, 64),
    # One block of columns: Triton makes a constant of a size that is 1.
    "bf16-256-1-1": functools.partial(_launch, 256, 1, 1),
}
#: Compiled for one GPU of each vendor: other types and sizes, and parts that those above have in another way.
VENDOR_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "bf16-6912-2560-1-bias": functools.partial(_launch, 6912, 2560, 1, bias=True),
    "fp32-2560-6912-1": functools.partial(_launch, 2560, 6912, 1, torch.float32),
    "bf16-2560-6912-16": functools.partial(_launch, 2560, 6912, 16),
    "bf16-256-1-2": functools.partial(_launch, 256, 1, 2),
}
#: Other forms that users get, declared and not compiled. Few outputs: a program gives 8 of them, and so many at a time
#: are no multiple of 16.
MORE_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "bf16-2560-2560-1": functools.partial(_launch, 2560, 2560, 1),
}
#: Deliberate mistakes, which the index check must find.
TWIN_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "naive-6912-2560": functools.partial(_naive, 6912, 2560),
    "narrow-6912-2560-8": functools.partial(_narrow, 6912, 2560, 8),
}
