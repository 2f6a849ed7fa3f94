"""What must scaling accumulators back compute? Plain torch, readable, no faster than it needs to be."""

from __future__ import annotations

import torch


def dequantize_bias_reference(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor,
    bias: torch.Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> torch.Tensor:
    """Compute ``fma(acc s_a, s_b, bias)`` as fp32 does, [M, N] ``dtype``; the kernel gives the same bits.

    INT32 is exact in fp32 only to 2**24, which a row of 1041 products of codes of 127 passes: it is rounded to fp32.
    The fused multiplication and addition is exact in fp64, but for one rounding in 2**29 that falls on a tie.
    """
    acc = acc[: len(row_scale), : len(column_scale)]
    scaled = acc.float() * row_scale[:, None]
    y = scaled.double() * column_scale.double()
    if bias is not None:
        y = y + bias.double()
    return y.float().to(dtype)


def dequantize_bias_oracle(
    acc: torch.Tensor, row_scale: torch.Tensor, column_scale: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute ``acc s_a s_b + bias`` in fp64, [M, N]: what every rounding is an error against."""
    acc = acc[: len(row_scale), : len(column_scale)]
    y = acc.double() * row_scale.double()[:, None] * column_scale.double()
    return y if bias is None else y + bias.double()
