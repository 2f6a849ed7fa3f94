"""Which inputs is the fused activation timed and checked on?"""

from __future__ import annotations

import torch

from perf_kernels.row_inputs import random_rows

__all__ = ["random_gate_up", "random_rows", "with_exact_products"]


def random_gate_up(
    rows: int,
    width: int,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> torch.Tensor:
    """Draw gate and up ~ N(0, 1), ``[rows, 2 width]``, contiguous: the same for the same seed, device and software."""
    return random_rows(rows, 2 * width, dtype, device, seed)


def with_exact_products(up: torch.Tensor) -> torch.Tensor:
    """Give ``[rows, 2 width]`` whose product is exactly ``128 up``, unless that is too large: silu(128) is 128."""
    return torch.cat([torch.full_like(up, 128.0), up], dim=1)
