"""What must one step of attention over a static cache compute? Plain torch, readable, in fp64 or as a model does."""

from __future__ import annotations

import torch


def normed_and_rotated(
    x: torch.Tensor, norm: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """Norm each head of ``x: [..., D]`` and rotate it: ``x cos + (-x2, x1) sin`` for its halves x1 and x2."""
    x = x * (x.square().mean(dim=-1, keepdim=True) + epsilon).rsqrt() * norm.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat([-second, first], dim=-1) * sin.to(x.dtype)


def decode_attention_reference(
    qkv: torch.Tensor,
    q_norm: torch.Tensor,
    k_norm: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    position: int,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    epsilon: float = 1e-6,
    dtype: torch.dtype = torch.float64,
    factors: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attend in fp64; see ``decode_attention``. The cache is left as it is.

    Args:
        qkv: as there, and so on.
        q_norm: as there.
        k_norm: as there.
        cos: as there.
        sin: as there.
        position: how many tokens the cache holds.
        keys: as there.
        values: as there.
        epsilon: as there.
        dtype: type in which all is computed and returned.
        factors: round queries, keys and weights of the softmax to this type before they are multiplied, as tensor cores
            take them.

    Returns:
        Outputs [B, H D], and the new token's key [B, G, D] and value [B, G, D].
    """

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return x if factors is None else x.to(factors).to(dtype)

    batch, kv_heads, _, width = keys.shape
    heads = qkv.shape[1] // width - 2 * kv_heads
    query, key, value = qkv.to(dtype).view(batch, -1, width).split([heads, kv_heads, kv_heads], dim=1)
    query = rounded(normed_and_rotated(query, q_norm, cos[position], sin[position], epsilon))
    key = rounded(normed_and_rotated(key, k_norm, cos[position], sin[position], epsilon))
    all_keys = torch.cat([keys[:, :, :position].to(dtype), key[:, :, None]], dim=2)
    all_values = torch.cat([values[:, :, :position].to(dtype), value[:, :, None]], dim=2)
    grouped = query.view(batch, kv_heads, heads // kv_heads, width)
    weights = rounded((grouped @ all_keys.transpose(2, 3) * width**-0.5).softmax(dim=-1))
    return (weights @ all_values).reshape(batch, -1), key, value
