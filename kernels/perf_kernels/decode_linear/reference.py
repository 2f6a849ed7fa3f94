"""What must a linear layer with stored-away weights compute, and how are 4-bit weights packed? Plain torch, readable.

Weights come in one of three forms: numbers [N, K] of x's type; codes [N, K] int8 or FP8 e4m3 with a scale for each row,
``w = code * scale``; codes of 4 bits with a scale and a zero point for each group of columns of a row,
``w = (code - zero) * scale``.

Packed layout of 4 bits. The columns of a group of G are the nibbles of G / 8 int32 words: nibble j (bits 4 j to
4 j + 3) of word c holds column ``j G / 8 + c``. So one nibble of neighbouring words meets neighbouring activations. The
scale of a group, fp16, lies in the lower half of an int32 and its zero point, 0 to 16, in the upper.
"""

from __future__ import annotations

import torch

from perf_kernels.decode_linear.formats import SMALLEST
from perf_kernels.decode_linear.launch import WORD

#: Largest code of activations.
LARGEST_CODE = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


def pack_int4(codes: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pack codes of 4 bits.

    Args:
        codes: [N, K] with values 0 to 15, K a multiple of the groups' size, and that of 32.
        scale: [N, K / G] fp16.
        zero: [N, K / G] with values 0 to 16.

    Returns:
        Words [N, K / 8] int32, and scales with zero points [N, K / G] int32.
    """
    rows, columns = codes.shape
    group = columns // scale.shape[1]
    nibbles = codes.to(torch.int32).view(rows, -1, WORD, group // WORD)
    words = torch.zeros(rows, columns // group, group // WORD, dtype=torch.int32, device=codes.device)
    for nibble in range(WORD):
        words |= nibbles[:, :, nibble] << 4 * nibble
    bits = scale.to(torch.float16).contiguous().view(torch.int16).to(torch.int32) & 0xFFFF
    return words.view(rows, -1), bits | zero.to(torch.int32) << 16


def unpack_int4(words: torch.Tensor, scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give the codes [N, K] uint8, scales [N, K / G] fp16 and zero points [N, K / G] uint8 that were packed."""
    rows, groups = scales.shape
    blocks = words.view(rows, groups, -1)
    codes = torch.stack([(blocks >> 4 * nibble) & 15 for nibble in range(WORD)], dim=2)
    scale = (scales & 0xFFFF).to(torch.int16).view(torch.float16)
    return codes.view(rows, -1).to(torch.uint8), scale, (scales >> 16).to(torch.uint8)


def full_weight(values: torch.Tensor, scale: torch.Tensor | None, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Give the weights [N, K] that are stored, computed in ``dtype``."""
    if values.dtype == torch.int32:
        assert scale is not None
        codes, scales, zero = unpack_int4(values, scale)
        groups = codes.view(*scales.shape, -1).to(dtype) - zero[:, :, None].to(dtype)
        return (groups * scales[:, :, None].to(dtype)).view(codes.shape)
    return values.to(dtype) if scale is None else values.to(dtype) * scale[:, None].to(dtype)


def coded(x: torch.Tensor, codes: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Round each token of ``x: [M, K]`` fp32 to codes.

    Returns:
        The codes' values [M, K] fp64, and the scale s [M] fp64: ``codes / s`` approximates x.
    """
    largest = x.abs().amax(dim=1).clamp_min(SMALLEST)
    # A number divided by a tensor is a product with its reciprocal in torch, which rounds twice.
    scale = torch.full_like(largest, LARGEST_CODE[codes]) / largest
    if codes == torch.int8:
        return (x.double() * scale.double()[:, None]).round(), scale.double()
    return (x * scale[:, None]).to(codes).double(), scale.double()


def decode_linear_reference(
    x: torch.Tensor,
    values: torch.Tensor,
    scale: torch.Tensor | None = None,
    *,
    norm: torch.Tensor | None = None,
    epsilon: float = 1e-6,
    residual: torch.Tensor | None = None,
    gated: bool = False,
    codes: torch.dtype | None = None,
) -> torch.Tensor:
    """Multiply ``x: [M, K]`` by stored weights in fp64, without a rounding; see ``decode_linear``."""
    factor = torch.ones((), dtype=torch.float64, device=x.device)
    x32 = x.float()
    if norm is not None:
        factor = (x.double().square().mean(dim=1, keepdim=True) + epsilon).rsqrt()
        x32 = x32 * norm.float()
    operand = x32.double()
    if codes is not None:
        # The rounding to codes is part of what is computed, so it is done as the kernel does it.
        operand, code_scale = coded(x32, codes)
        factor = factor / code_scale[:, None]
    y = operand @ full_weight(values, scale).t() * factor
    if gated:
        gate, up = y.chunk(2, dim=1)
        y = torch.nn.functional.silu(gate) * up
    return y if residual is None else y + residual.double()
