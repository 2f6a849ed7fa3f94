"""Which inputs is scaling back timed and checked on?"""

from __future__ import annotations

import torch


def random_products(
    rows: int,
    columns: int,
    acc_dtype: torch.dtype = torch.int32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    depth: int = 3584,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw what a multiplication of INT8 codes over ``depth`` columns leaves behind, the same for the same seed.

    Returns:
        acc: [rows, columns] ``acc_dtype``, of the size that random codes give; row_scale: [rows] and column_scale:
        [columns] fp32, near 0.03 and 0.001; bias: [columns] bf16 ~ N(0, 1).
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    largest = int(40 * 40 * depth**0.5 * 4)
    if acc_dtype is torch.int32:
        acc = torch.randint(
            -largest, largest + 1, (rows, columns), dtype=torch.int32, device=device, generator=generator
        )
    else:
        acc = torch.randn((rows, columns), dtype=acc_dtype, device=device, generator=generator).mul_(largest / 2)
    row_scale = torch.rand((rows,), device=device, generator=generator) * 0.02 + 0.02
    column_scale = torch.rand((columns,), device=device, generator=generator) * 0.001 + 0.0005
    bias = torch.randn((columns,), dtype=torch.bfloat16, device=device, generator=generator)
    return acc, row_scale, column_scale, bias
