"""Which launches cover the compiled forms that users of the fused activation get?"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from perf_kernels.model_shapes import MODELS, TOKENS
from perf_kernels.silu_mul_quantization.naive_twin import naive_silu_mul_quantize
from perf_kernels.silu_mul_quantization.ops import silu_mul_quantize


def _launch(dtype: torch.dtype, width: int, rows: int = 65536, values: torch.dtype = torch.bfloat16) -> object:
    return silu_mul_quantize(torch.empty((rows, 2 * width), dtype=values, device="cuda"), dtype)


def _launch_twin(width: int, rows: int) -> object:
    gate_up = torch.empty((rows, 2 * width), dtype=torch.bfloat16, device="cuda")
    q = torch.empty((rows, width), dtype=torch.int8, device="cuda")
    return naive_silu_mul_quantize(gate_up, q, torch.empty((rows,), dtype=torch.float32, device="cuda"))


#: The intermediate widths of the models; 18944 ends in a masked tile.
LAUNCHES: dict[str, Callable[[], object]] = {
    "int8-18944": functools.partial(_launch, torch.int8, 18944),
    "fp8-18944": functools.partial(_launch, torch.float8_e4m3fn, 18944),
    "int8-8192": functools.partial(_launch, torch.int8, 8192),
    "int8-8192-128-rows": functools.partial(_launch, torch.int8, 8192, 128),
    "int8-two-passes": functools.partial(_launch, torch.int8, 2**20, 16),
}
#: Compiled for one GPU of each vendor: other types and sizes, and parts that those above have in another way.
VENDOR_LAUNCHES: dict[str, Callable[[], object]] = {
    "int8-13824": functools.partial(_launch, torch.int8, 13824),
    "int8-fp16-18944": functools.partial(_launch, torch.int8, 18944, values=torch.float16),
}
#: Other forms that users get, declared and not compiled: how a row is cut up depends on its width and on their number.
MORE_LAUNCHES: dict[str, Callable[[], object]] = {
    f"{name}-{model.intermediate}-{rows}-rows": functools.partial(_launch, codes, model.intermediate, rows)
    for name, codes in (("int8", torch.int8), ("fp8", torch.float8_e4m3fn))
    for model in MODELS
    for rows in (64, *TOKENS)
}
TWIN_LAUNCHES: dict[str, Callable[[], object]] = {
    "int8-18944": functools.partial(_launch_twin, 18944, 65536),
}
