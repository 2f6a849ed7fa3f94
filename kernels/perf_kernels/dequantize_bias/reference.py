"""What must scaling accumulators back compute? Plain torch, readable, no faster than it needs to be."""

from __future__ import annotations

import torch


def dequantize_bias_reference(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor | None,
    bias: torch.Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> torch.Tensor:
    """Compute ``fma(acc s_a, s_b, bias)`` as fp32 does, [M, N] ``dtype``; the kernel gives the same bits.

    Without ``column_scale`` it is ``fma(acc, s_a, bias)``, and N the columns of ``acc``.
    INT32 is exact in fp32 only to 2**24, which a row of 1041 products of codes of 127 passes: it is rounded to fp32.
    The fused multiplication and addition is exact in fp64, but for one rounding in 2**29 that falls on a tie.
    """
    acc = _without_padding(acc, row_scale, column_scale).float()
    if column_scale is None:
        y = acc.double() * row_scale.double()[:, None]
    else:
        y = (acc * row_scale[:, None]).double() * column_scale.double()
    if bias is not None:
        y = y + bias.double()
    return y.float().to(dtype)


def dequantize_bias_oracle(
    acc: torch.Tensor, row_scale: torch.Tensor, column_scale: torch.Tensor | None, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute ``acc s_a s_b + bias`` in fp64, [M, N]: what every rounding is an error against."""
    y = _without_padding(acc, row_scale, column_scale).double() * row_scale.double()[:, None]
    if column_scale is not None:
        y = y * column_scale.double()
    return y if bias is None else y + bias.double()


def _without_padding(acc: torch.Tensor, row_scale: torch.Tensor, column_scale: torch.Tensor | None) -> torch.Tensor:
    return acc[: len(row_scale), : acc.shape[1] if column_scale is None else len(column_scale)]
