"""Which launches cover the compiled forms that users of slide quantisation get?"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from perf_kernels.model_shapes import TOKENS, WIDTHS
from perf_kernels.slide_quantization.launch import padded_rows, slid_width
from perf_kernels.slide_quantization.naive_twin import naive_slide
from perf_kernels.slide_quantization.ops import slide_quantize_rows


def _launch(
    group: int, dtype: torch.dtype, width: int, rows: int = 65536, values: torch.dtype = torch.bfloat16
) -> object:
    return slide_quantize_rows(torch.empty((rows, width), dtype=values, device="cuda"), group, dtype)


def _launch_twin(group: int, width: int, rows: int) -> object:
    x = torch.empty((rows, width), dtype=torch.bfloat16, device="cuda")
    q = torch.empty((padded_rows(rows), slid_width(width, group)), dtype=torch.int8, device="cuda")
    scale = torch.empty((padded_rows(rows),), dtype=torch.float32, device="cuda")
    return naive_slide(x, group, q, scale)


_FP8 = torch.float8_e4m3fn
#: Group sizes at a width of Qwen2.5-7B, the other type, its widest projection, and the loop over a row.
LAUNCHES: dict[str, Callable[[], object]] = {
    "int8-4-3584": functools.partial(_launch, 4, torch.int8, 3584),
    "int8-8-3584": functools.partial(_launch, 8, torch.int8, 3584),
    "fp8-8-3584": functools.partial(_launch, 8, torch.float8_e4m3fn, 3584),
    "int8-8-18944": functools.partial(_launch, 8, torch.int8, 18944),
    "int8-8-two-passes": functools.partial(_launch, 8, torch.int8, 2**20, 16),
}
#: The other group sizes, compiled for one GPU of each vendor: the same code, repeated more or fewer times. One of 10
#: takes longest of all to compile.
VENDOR_LAUNCHES: dict[str, Callable[[], object]] = {
    "int8-12-3584": functools.partial(_launch, 12, torch.int8, 3584),
    "int8-6-3584": functools.partial(_launch, 6, torch.int8, 3584),
    "int8-10-3584": functools.partial(_launch, 10, torch.int8, 3584),
}
#: Other forms that users get, declared and not compiled: how a row is cut up depends on its width and on their number.
MORE_LAUNCHES: dict[str, Callable[[], object]] = {
    f"{name}-{group}-{width}-{rows}-rows": functools.partial(_launch, group, codes, width, rows)
    for name, codes in (("int8", torch.int8), ("fp8", _FP8))
    for group in (4, 6, 8, 10)
    for width in WIDTHS
    for rows in (64, *TOKENS)
}
TWIN_LAUNCHES: dict[str, Callable[[], object]] = {
    "int8-8-18944": functools.partial(_launch_twin, 8, 18944, 65536),
}
