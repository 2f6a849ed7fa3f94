"""How far may a step of attention be from fp64? Twice as far as the same computation in torch, and a small floor."""

from __future__ import annotations

import torch

from perf_kernels.decode_attention.reference import decode_attention_reference
from perf_kernels.linear_attention import relative_rms

__all__ = ["FLOOR", "Allowed", "relative_rms"]

#: Sums and exponentials are taken in another order and base; a GPU's are approximate.
FLOOR = {torch.bfloat16: 1e-4, torch.float16: 1e-4, torch.float32: 2e-6}


class Allowed:
    """What a step must give, and with which error: relative, as :func:`relative_rms` gives it.

    Takes the arguments of :func:`decode_attention_reference`, the cache as it is before the step.

    Attributes:
        output: [B, H D] fp64.
        key: [B, G, D] fp64, of the new token.
        value: [B, G, D] fp64, of the new token; it is stored as it is.
        output_error: the largest that is allowed.
        key_error: likewise.
    """

    def __init__(self, qkv: torch.Tensor, *others: torch.Tensor | int) -> None:
        dtype = qkv.dtype
        self.output, self.key, self.value = decode_attention_reference(qkv, *others)
        output, key, _ = decode_attention_reference(qkv, *others, dtype=torch.float32, factors=dtype)
        self.output_error = 2 * relative_rms(output.to(dtype), self.output) + FLOOR[dtype]
        self.key_error = 2 * relative_rms(key, self.key) + FLOOR[dtype]
