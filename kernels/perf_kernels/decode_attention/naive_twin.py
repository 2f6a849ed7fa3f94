"""What does the kernel look like with 32-bit offsets into the cache? A mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def naive_kernel(q_ptr, keys_ptr, scores_ptr, length, position, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Give the scores of one head of keys a program; ``head * length * WIDTH`` wraps past 2**31."""
    head = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    q = tl.load(q_ptr + head * WIDTH + column).to(tl.float32)
    for start in range(0, tl.cdiv(position, BLOCK)):
        at = start * BLOCK + tl.arange(0, BLOCK)
        before = at < position
        offset = head * length * WIDTH + at[:, None] * WIDTH + column[None, :]
        k = tl.load(keys_ptr + offset, mask=before[:, None], other=0.0).to(tl.float32)
        tl.store(scores_ptr + head * position + at, tl.sum(q[None, :] * k, axis=1), mask=before)


def scores_naively(q: torch.Tensor, keys: torch.Tensor, position: int) -> torch.Tensor:
    """Give the scores [G, position] fp32 of ``q: [G, D]`` with ``keys: [G, L, D]``."""
    heads, length, width = keys.shape
    scores = torch.empty((heads, position), dtype=torch.float32, device=q.device)
    naive_kernel[(heads,)](q, keys, scores, length, position, width, 64)
    return scores
