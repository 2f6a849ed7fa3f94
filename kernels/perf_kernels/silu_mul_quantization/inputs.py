"""Which inputs is the fused activation timed and checked on?"""

from __future__ import annotations

import torch

from perf_kernels.row_quantization.inputs import random_rows


def random_gate_up(
    rows: int,
    width: int,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> torch.Tensor:
    """Draw gate and up ~ N(0, 1), ``[rows, 2 width]``, contiguous: the same for the same seed, device and software."""
    return random_rows(rows, 2 * width, dtype, device, seed)
