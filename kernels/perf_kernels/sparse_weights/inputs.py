"""Which weights are pruned and slid when that is timed and checked?"""

from __future__ import annotations

import torch

#: Gate or up projection of Qwen2.5-7B, outputs and inputs.
SHAPE = (18944, 3584)


def random_weight(
    rows: int,
    columns: int,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> torch.Tensor:
    """Draw weights ``[rows, columns]``: ~ N(0, 1), or all of int8's values alike."""
    generator = torch.Generator(device=device).manual_seed(seed)
    if dtype is torch.int8:
        return torch.randint(-128, 128, (rows, columns), dtype=dtype, device=device, generator=generator)
    # torch draws no fp8.
    drawn = torch.float32 if dtype.itemsize == 1 else dtype
    return torch.randn((rows, columns), dtype=drawn, device=device, generator=generator).to(dtype)
