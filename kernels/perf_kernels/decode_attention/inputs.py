"""Which inputs is a step of attention timed and checked on?"""

from __future__ import annotations

import torch

from perf_kernels.decode_attention.ops import Step


def random_step(
    batch: int,
    heads: int,
    kv_heads: int,
    width: int,
    length: int,
    position: int,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Step:
    """Draw a step with ``position`` tokens in the cache; what lies behind them is NaN, so that reading it shows."""
    generator = torch.Generator(device=device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, device=device, generator=generator)

    keys, values = normal(batch, kv_heads, length, width), normal(batch, kv_heads, length, width)
    keys[:, :, position:] = torch.nan
    values[:, :, position:] = torch.nan
    frequency = 1e6 ** (-torch.arange(0, width, 2, device=device) / width)
    angle = torch.arange(length, device=device)[:, None] * frequency[None, :]
    angle = torch.cat([angle, angle], dim=1)
    return Step(
        normal(batch, (heads + 2 * kv_heads) * width),
        normal(width) / 4 + 1,
        normal(width) / 4 + 1,
        angle.cos().to(dtype),
        angle.sin().to(dtype),
        torch.tensor(position, device=device),
        keys,
        values,
    )
