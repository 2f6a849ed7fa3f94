"""Which launches cover every compiled form of the kernel that users get? The static gate compiles ``LAUNCHES``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

from perf_kernels.decode_attention.naive_twin import scores_naively
from perf_kernels.decode_attention.ops import decode_attention, workspace_for
from perf_kernels.target import current_target


def _launch(batch: int, length: int, dtype: torch.dtype = torch.bfloat16, *, shared: bool = False) -> object:
    """One step of Qwen3-4B: 32 heads of queries, 8 of keys and values, 128 columns each."""
    if shared and current_target().backend == "hip":
        raise NotImplementedError("programs share a head on NVIDIA GPUs alone")

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="cuda")

    position = torch.empty((), dtype=torch.int64, device="cuda")
    cache = empty(batch, 8, length, 128), empty(batch, 8, length, 128)
    tables = empty(length, 128), empty(length, 128)
    workspace = workspace_for(cache[0], 32) if shared else None
    return decode_attention(
        empty(batch, 48 * 128), empty(128), empty(128), *tables, position, *cache, workspace=workspace
    )


def _naive() -> object:
    q = torch.empty(8, 128, dtype=torch.bfloat16, device="cuda")
    return scores_naively(q, torch.empty(8, 640, 128, dtype=torch.bfloat16, device="cuda"), 600)


#: Named by type, sequences and length of the cache.
LAUNCHES: Mapping[str, Callable[[], object]] = {
    "bf16-1-640": functools.partial(_launch, 1, 640),
    "bf16-1-640-shared": functools.partial(_launch, 1, 640, shared=True),
    # Triton makes no assumption about a length that is not a multiple of 16.
}
#: Compiled for one GPU of each vendor: other types and sizes, and parts that those above have in another way.
VENDOR_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "fp16-8-613-odd": functools.partial(_launch, 8, 613, torch.float16),
}
#: The deliberate mistake, which the index check must find.
TWIN_LAUNCHES: Mapping[str, Callable[[], object]] = {"naive-640": _naive}
