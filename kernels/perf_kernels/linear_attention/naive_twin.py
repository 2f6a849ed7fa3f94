"""What do the kernels look like with 32-bit offsets of rows? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def naive_kernel(k_ptr, v_ptr, state_ptr, tokens, heads, K: tl.constexpr, V: tl.constexpr, CHUNK: tl.constexpr):
    """Sum ``k v^T`` over one sequence and head a program; ``batch * tokens * heads * K`` wraps past 2**31."""
    program = tl.program_id(0)
    batch = program // heads
    head = program % heads
    key = tl.arange(0, K)
    value = tl.arange(0, V)
    state = tl.zeros([K, V], tl.float32)
    for first in range(0, tokens, CHUNK):
        token = first + tl.arange(0, CHUNK)
        row = (batch * tokens + token) * heads + head
        inside = token[:, None] < tokens
        k = tl.load(k_ptr + row[:, None] * K + key[None, :], mask=inside, other=0.0)
        v = tl.load(v_ptr + row[:, None] * V + value[None, :], mask=inside, other=0.0)
        state = tl.dot(tl.trans(k), v, state)
    tl.store(state_ptr + program * (K * V) + key[:, None] * V + value[None, :], state)


def naive_states(k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Give the state after the last token, [B, H, K, V] fp32, for contiguous ``k, v: [B, T, H, K or V]``.

    Args:
        k: [B, T, H, K] with K a power of two from 16.
        v: [B, T, H, V] with V a power of two from 16.
    """
    batch, tokens, heads, keys = k.shape
    state = torch.empty((batch, heads, keys, v.shape[-1]), dtype=torch.float32, device=k.device)
    naive_kernel[(batch * heads,)](k, v, state, tokens, heads, keys, v.shape[-1], 16)
    return state
