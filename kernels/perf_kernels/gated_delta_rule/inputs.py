"""Which inputs is the gated delta rule timed and checked on?"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from perf_kernels.linear_attention.inputs import random_heads


def random_gated_heads(
    batch: int,
    tokens: int,
    heads: int,
    keys: int,
    values: int | None = None,
    value_heads: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw q, k [B, T, H, K], v [B, T, HV, V], g [B, T, HV] fp32 below 0 and beta [B, T, HV] in (0, 1).

    Args:
        batch: sequences.
        tokens: tokens of a sequence.
        heads: heads of queries and keys.
        keys: width of queries and keys; they are not normalised.
        values: width of values; as the keys by default.
        value_heads: heads of values; as many as of keys by default.
        dtype: type of all but g.
        device: where they are drawn.
        seed: the same gives the same on the same device.
    """
    q, k, _ = random_heads(batch, tokens, heads, keys, 1, dtype, device, seed)
    value_heads = heads if value_heads is None else value_heads
    _, _, v = random_heads(batch, tokens, value_heads, 1, keys if values is None else values, dtype, device, seed + 1)
    generator = torch.Generator(device=device).manual_seed(seed + 2)
    g, beta = torch.randn((2, batch, tokens, value_heads), device=device, generator=generator)
    # Decays of about 0.94 to 0.998 a token, as trained models have.
    return q, k, v, logsigmoid(g + 4), beta.sigmoid().to(dtype)
