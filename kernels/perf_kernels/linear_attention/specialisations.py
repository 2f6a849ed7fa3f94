"""Which launches cover the compiled forms of the kernels that users get? The static gate compiles ``LAUNCHES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from perf_kernels.linear_attention import attend
from perf_kernels.linear_attention.attend import attend_chunks
from perf_kernels.linear_attention.naive_twin import naive_states
from perf_kernels.narrowed import narrowed


def _attend(
    batch: int,
    tokens: int,
    heads: int,
    width: int,
    dtype: torch.dtype = torch.bfloat16,
    *,
    carried: bool = False,
    **options: Any,
) -> object:
    """Launch on memory that holds nothing yet; ``carried`` starts from a state and gives the last one."""
    q, k, v = (torch.empty((batch, tokens, heads, width), dtype=dtype, device="cuda") for _ in range(3))
    if carried:
        state = torch.empty((batch, heads, width, width), dtype=torch.float32, device="cuda")
        options |= {"state": state, "store_final": True}
        if options.get("normalize"):
            options["key_sum"] = torch.empty((batch, heads, width), dtype=torch.float32, device="cuda")
    return attend_chunks(q, k, v, width**-0.5, **options)


def _twin() -> object:
    k, v = (torch.empty((8, 4096, 8, 128), dtype=torch.bfloat16, device="cuda") for _ in range(2))
    return naive_states(k, v)


def _narrow() -> object:
    with narrowed(attend, "_segment_sums_kernel", "_prefix_sums_kernel", "_outputs_kernel"):
        return _attend(1, 32768, 8, 128)


#: By data type, batch, tokens, heads and width of a head. Short batches of long sequences are walked in segments. Few,
#: because each is compiled for every target, and an outputs kernel takes seconds.
LAUNCHES: Mapping[str, Callable[[], object]] = {
    "bf16-8x4096x8x128": partial(_attend, 8, 4096, 8, 128),
    "bf16-1x32768x8x128-normalized-carried": partial(_attend, 1, 32768, 8, 128, normalize=True, carried=True),
}
#: Other forms that users get.
MORE_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "bf16-128x1000x4x64-ragged": partial(_attend, 128, 1000, 4, 64),
    "bf16-8x4096x8x128-normalized": partial(_attend, 8, 4096, 8, 128, normalize=True),
    "bf16-8x4096x8x128-carried": partial(_attend, 8, 4096, 8, 128, carried=True),
    "bf16-1x32768x8x128": partial(_attend, 1, 32768, 8, 128),
    "bf16-1x32768x8x128-normalized": partial(_attend, 1, 32768, 8, 128, normalize=True),
    "bf16-2x8192x16x64": partial(_attend, 2, 8192, 16, 64),
    "bf16-2x8192x16x64-normalized": partial(_attend, 2, 8192, 16, 64, normalize=True),
    "bf16-32x512x16x64": partial(_attend, 32, 512, 16, 64),
    "bf16-32x512x16x64-normalized": partial(_attend, 32, 512, 16, 64, normalize=True),
    "bf16-128x1x8x128-one-token": partial(_attend, 128, 1, 8, 128, carried=True),
    "fp16-8x4096x8x128": partial(_attend, 8, 4096, 8, 128, torch.float16),
    "fp32-32x4096x8x64": partial(_attend, 32, 4096, 8, 64, torch.float32),
    "bf16-8x4096x16x256": partial(_attend, 8, 4096, 16, 256),
}
#: Deliberate mistakes, which the index check must find.
TWIN_LAUNCHES: Mapping[str, Callable[[], object]] = {"naive-8x4096x8x128": _twin, "narrow-1x32768x8x128": _narrow}
