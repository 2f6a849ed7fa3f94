"""What must a ternary matrix product compute, and how are its weights packed? Plain torch, readable.

BitNet b1.58: ``gamma = max(mean |W|, 1e-5)``, ``Wq = clip(round(W / gamma), -1, 1)``; for each token ``s = 127 /
max(max |x|, 1e-5)``, ``xq = clip(round(x s), -128, 127)``; ``y = (xq . Wq^T) gamma / s + bias``.

Packed layout. A row of weights is cut into blocks of 256 columns, the last padded with zeros; a block takes 64 bytes.
Byte j of a block holds its columns j, 64 + j, 128 + j and 192 + j in bits 0-1, 2-3, 4-5 and 6-7. The lower three fields
hold ``w + 1``, the highest holds w in two's complement. So ``byte & mask``, read as an int8, is ``(w + 1) 4**field`` or
``w 64``: fields come apart without a shift or a select, in all four bytes of a register at once, and 16 columns side by
side in memory meet 16 activations side by side.
"""

from __future__ import annotations

import torch

#: Columns that one block of packed bytes holds, and its bytes.
BLOCK_COLUMNS = 256
BLOCK_BYTES = 64
#: Smallest mean of weights and largest magnitude of activations that a scale is made of.
SMALLEST = 1e-5


def quantize_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise ``weight: [N, K]`` to {-1, 0, 1}.

    Returns:
        Codes [N, K] int8, and gamma, fp32 without dimensions: ``codes * gamma`` approximates ``weight``.
    """
    # Summed in fp64: in fp32 the order of the sum, which differs between devices, would show in the codes.
    gamma = weight.abs().mean(dtype=torch.float64).clamp_min(SMALLEST).float()
    return (weight.float() / gamma).round().clamp(-1, 1).to(torch.int8), gamma


def packed_bytes(columns: int) -> int:
    """Give the bytes of a packed row of so many weights."""
    return -(-columns // BLOCK_COLUMNS) * BLOCK_BYTES


def pack_ternary(codes: torch.Tensor) -> torch.Tensor:
    """Pack ``codes: [N, K]`` int8 in {-1, 0, 1} into [N, ceil(K / 256) * 64] uint8, four to a byte.

    Raises:
        ValueError: a code is not -1, 0 or 1. (Reads the largest code back: not for a timed path.)
    """
    if codes.numel() and int(codes.abs().amax()) > 1:
        row, column = (codes.abs() > 1).nonzero()[0].tolist()
        raise ValueError(
            f"pack_ternary: codes[{row}, {column}] is {codes[row, column].item()}; codes must be -1, 0 or 1"
        )
    return pack_valid_codes(codes)


def pack_valid_codes(codes: torch.Tensor) -> torch.Tensor:
    """Pack codes that are known to be -1, 0 or 1, as :func:`pack_ternary` does, without reading any."""
    rows, columns = codes.shape
    padded = torch.nn.functional.pad(codes.to(torch.int8), (0, -columns % BLOCK_COLUMNS))
    first, second, third, last = padded.view(rows, -1, 4, BLOCK_BYTES).unbind(2)
    packed = (first + 1) | (second + 1) << 2 | (third + 1) << 4 | last << 6
    return packed.view(torch.uint8).reshape(rows, -1)


def unpack_ternary(packed: torch.Tensor, columns: int) -> torch.Tensor:
    """Give the codes [N, columns] int8 that :func:`pack_ternary` packed; ``packed: [N, B]`` uint8."""
    rows = packed.shape[0]
    blocks = packed.view(torch.int8).reshape(rows, -1, BLOCK_BYTES)
    # The shift of an int8 keeps the sign, which decodes the highest field.
    fields = [(blocks & 3) - 1, (blocks >> 2 & 3) - 1, (blocks >> 4 & 3) - 1, blocks >> 6]
    return torch.stack(fields, dim=2).reshape(rows, -1)[:, :columns].contiguous()


def quantize_tokens(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise each row of ``x: [M, K]``: codes [M, K] int8 and the scale s [M] fp32; ``codes / s`` approximates x.

    The product x s is not rounded before it is rounded to an integer. A row that holds an infinity or a NaN has codes 0
    and the scale NaN.
    """
    largest = x.abs().amax(dim=1).float() if x.shape[1] else x.new_zeros(x.shape[0], dtype=torch.float32)
    finite = largest.isfinite()
    # A number divided by a tensor is a product with its reciprocal in torch, which rounds twice.
    scale = torch.full_like(largest, 127.0) / largest.clamp_min(SMALLEST)
    codes = (x.double() * scale.double()[:, None]).round().clamp(-128, 127)
    return torch.where(finite[:, None], codes, 0.0).to(torch.int8), torch.where(finite, scale, torch.nan)


def accumulate(q: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Give ``q . codes^T`` [M, N] int32 for ``q: [M, K]`` and ``codes: [N, K]``, both int8: exact, in fp64."""
    return (q.double() @ codes.double().t()).to(torch.int32)


def ternary_matmul_reference(
    x: torch.Tensor,
    codes: torch.Tensor,
    gamma: torch.Tensor,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Multiply ``x: [M, K]`` by weights given as ``codes: [N, K]`` int8 and ``gamma``; see ``ternary_matmul``."""
    q, scale = quantize_tokens(x)
    sums = accumulate(q, codes)
    out_dtype = out_dtype or x.dtype
    if out_dtype is torch.int32:
        return sums
    factor = gamma.float() / scale
    # Exact up to the one rounding to fp32: 24 bits times 24 bits, as the kernel's fused multiply-add.
    y = sums.double() * factor.double()[:, None]
    return (y if bias is None else y + bias.double()).float().to(out_dtype)
