"""Which launches cover every compiled form of the kernel that users get? The static gate compiles ``LAUNCHES``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

from perf_kernels.model_shapes import TOKENS, WIDTHS
from perf_kernels.row_quantization.naive_twin import quantize_rows_naively
from perf_kernels.row_quantization.ops import quantize_rows

_CODES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}


def _launch(codes: str, width: int, rows: int, values: torch.dtype = torch.bfloat16) -> object:
    return quantize_rows(torch.empty(rows, width, dtype=values, device="cuda"), _CODES[codes])


def _strided(width: int, rows: int) -> object:
    """Every other column of a matrix twice as wide."""
    return quantize_rows(torch.empty(rows, 2 * width, dtype=torch.bfloat16, device="cuda")[:, ::2])


def _naive(width: int, rows: int) -> object:
    x = torch.empty(rows, width, dtype=torch.bfloat16, device="cuda")
    return quantize_rows_naively(x, torch.empty_like(x, dtype=torch.int8), torch.empty(rows, device="cuda"))


#: Named by codes, width and rows, and by what is special.
LAUNCHES: Mapping[str, Callable[[], object]] = {
    "int8-3584-128": functools.partial(_launch, "int8", 3584, 128),
    "int8-3584-65536": functools.partial(_launch, "int8", 3584, 65536),
    "int8-18944-65536": functools.partial(_launch, "int8", 18944, 65536),
    "int8-18943-65536-odd": functools.partial(_launch, "int8", 18943, 65536),
    "int8-1048576-64-two-pass": functools.partial(_launch, "int8", 2**20, 64),
    "int8-8192-4096-strided": functools.partial(_strided, 8192, 4096),
    "fp8-3584-65536": functools.partial(_launch, "fp8", 3584, 65536),
}
#: Compiled for one GPU of each vendor: other types and sizes, and parts that those above have in another way.
VENDOR_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "int8-3584-65536-fp16": functools.partial(_launch, "int8", 3584, 65536, torch.float16),
    "int8-8192-4096-fp32": functools.partial(_launch, "int8", 8192, 4096, torch.float32),
    "fp8-18944-65536": functools.partial(_launch, "fp8", 18944, 65536),
}
#: The other widths that the served models have: INT8 from bf16, as many rows as a prompt has.
MODEL_LAUNCHES: Mapping[str, Callable[[], object]] = {
    f"int8-{width}-65536": functools.partial(_launch, "int8", width, 65536)
    for width in (2048, 3072, 5120, 8192, 13824, 37888)
}
#: Other forms that users get, declared and not compiled: how a row is cut up depends on its width and on their number.
MORE_LAUNCHES: Mapping[str, Callable[[], object]] = {
    f"{codes}-{width}-{rows}-rows": functools.partial(_launch, codes, width, rows)
    for codes in _CODES
    for width in WIDTHS
    for rows in (64, *TOKENS)
}
#: The deliberate mistake, which the index check must find.
TWIN_LAUNCHES: Mapping[str, Callable[[], object]] = {"naive-3584-65536": functools.partial(_naive, 3584, 65536)}
