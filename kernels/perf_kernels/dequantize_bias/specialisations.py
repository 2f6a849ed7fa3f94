"""Which launches cover the compiled forms that users of scaling back get?"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from perf_kernels.dequantize_bias.naive_twin import naive_dequantize
from perf_kernels.dequantize_bias.ops import dequantize_bias
from perf_kernels.model_shapes import OUTPUTS, TOKENS


def _launch(
    rows: int,
    columns: int,
    acc_dtype: torch.dtype = torch.int32,
    dtype: torch.dtype = torch.bfloat16,
    bias_dtype: torch.dtype | None = None,
    transposed: bool = False,
    scaled: bool = False,
) -> object:
    acc = torch.empty((columns, rows) if transposed else (rows, columns), dtype=acc_dtype, device="cuda")
    row_scale = torch.empty((rows,), dtype=torch.float32, device="cuda")
    column_scale = None if scaled else torch.empty((columns,), dtype=torch.float32, device="cuda")
    bias = None if bias_dtype is None else torch.empty((columns,), dtype=bias_dtype, device="cuda")
    return dequantize_bias(acc.t() if transposed else acc, row_scale, column_scale, bias, dtype)


#: Of products that are bf16, and scaled.
_launch_scaled = functools.partial(_launch, acc_dtype=torch.bfloat16, scaled=True)


def _launch_twin(rows: int, columns: int) -> object:
    acc = torch.empty((rows, columns), dtype=torch.int32, device="cuda")
    row_scale = torch.empty((rows,), dtype=torch.float32, device="cuda")
    column_scale = torch.empty((columns,), dtype=torch.float32, device="cuda")
    return naive_dequantize(acc, row_scale, column_scale, torch.empty_like(acc, dtype=torch.bfloat16))


#: All accumulators and all three results; the gate and up projection of Qwen2.5-7B is the widest.
LAUNCHES: dict[str, Callable[[], object]] = {
    "int32-bf16-37888": functools.partial(_launch, 65536, 37888),
    "int32-bf16-bias-4608": functools.partial(_launch, 65536, 4608, bias_dtype=torch.bfloat16),
    "fp32-bf16-bias-4608": functools.partial(_launch, 65536, 4608, torch.float32, bias_dtype=torch.bfloat16),
    "int32-bf16-transposed-37888": functools.partial(_launch, 65536, 37888, transposed=True),
    "int32-bf16-odd-3585": functools.partial(_launch, 65536, 3585),
    "bf16-bf16-37888": functools.partial(_launch_scaled, 65536, 37888),
    "bf16-bf16-bias-4608": functools.partial(_launch_scaled, 65536, 4608, bias_dtype=torch.bfloat16),
    "bf16-bf16-transposed-37888": functools.partial(_launch_scaled, 65536, 37888, transposed=True),
}
#: Compiled for one GPU of each vendor: other types and sizes, and parts that those above have in another way.
VENDOR_LAUNCHES: dict[str, Callable[[], object]] = {
    "int32-fp16-3584": functools.partial(_launch, 65536, 3584, dtype=torch.float16),
    "int32-fp16-bias-4608": functools.partial(_launch, 65536, 4608, dtype=torch.float16, bias_dtype=torch.float16),
    "int32-fp32-3584": functools.partial(_launch, 65536, 3584, dtype=torch.float32),
    "bf16-bf16-bias-4608-128-rows": functools.partial(_launch_scaled, 128, 4608, bias_dtype=torch.bfloat16),
    "int32-bf16-bias-4608-128-rows": functools.partial(_launch, 128, 4608, bias_dtype=torch.bfloat16),
}
#: Other forms that users get, declared and not compiled: how results are cut up depends on how many there are.
MORE_LAUNCHES: dict[str, Callable[[], object]] = {
    f"{name}{'-bias' if bias else ''}{'-transposed' if transposed else ''}-{columns}-{rows}-rows": functools.partial(
        launch, rows, columns, bias_dtype=bias, transposed=transposed
    )
    for name, launch in (
        ("int32-bf16", _launch),
        ("fp32-bf16", functools.partial(_launch, acc_dtype=torch.float32)),
        ("bf16-bf16", _launch_scaled),
    )
    for bias in (None, torch.bfloat16)
    for transposed in (False, True)
    for columns in OUTPUTS
    for rows in (64, *TOKENS)
}
TWIN_LAUNCHES: dict[str, Callable[[], object]] = {
    "int32-bf16-37888": functools.partial(_launch_twin, 65536, 37888),
}
