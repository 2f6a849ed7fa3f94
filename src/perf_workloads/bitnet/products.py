"""How are int8 activations multiplied by ternary weights in plain torch, for each form of the weights?

``y = (q . W^T) gamma / s`` with ``q = round(x s)`` and ``s = 127 / max |x|`` of each token. The sums are integers below
2**24: fp32, int8 and packed weights give the same ones, bit for bit. Imports torch: import it where it is used.
"""

from __future__ import annotations

from typing import Any

import torch

#: Smallest mean of weights and largest magnitude of activations that a scale is made of.
SMALLEST = 1e-5
#: ``torch._int_mm`` on CUDA takes more rows than 16.
_LEAST_CUDA_ROWS = 32
#: Columns and bytes of one block of packed weights; see ``perf_kernels.ternary_matmul.reference`` for the layout.
_BLOCK_COLUMNS, _BLOCK_BYTES = 256, 64

Tensor = Any


def ternarise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise ``weight: [N, K]`` to codes -1, 0, 1 in its own type, and gamma: ``codes * gamma`` is nearly it.

    In the arithmetic of transformers' ``AutoBitLinear``, which does this in every call: in fp32, the mean as well.
    """
    exact = weight.float()
    scale = 1.0 / exact.abs().mean().clamp_(min=SMALLEST)
    return (exact * scale).round_().clamp_(-1, 1).to(weight.dtype), 1.0 / scale


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise tokens ``x: [M, K]``: codes -128 ... 127 as fp32 [M, K], and the scale s: [M, 1] fp32."""
    x = x.float()
    largest = x.abs().amax(dim=1, keepdim=True).clamp_(min=SMALLEST)
    # A number divided by a tensor is a product with its reciprocal in torch, which rounds twice.
    scale = torch.full_like(largest, 127.0) / largest
    return (x * scale).round_().clamp_(-128, 127), scale


def float_sums(q: Tensor, codes: Tensor) -> Tensor:
    """Multiply ``q: [M, K]`` fp32 by ``codes: [N, K]`` in a float type; [M, N] of that type."""
    return torch.nn.functional.linear(q.to(codes.dtype), codes)


def int8_sums(q: Tensor, codes: Tensor) -> Tensor:
    """Multiply ``q: [M, K]`` by ``codes: [N, K]`` int8; [M, N] int32, exact.

    The weights are handed over as a view of rows: a contiguous [K, N] copy is several times slower for one token.
    """
    rows = q.shape[0]
    q = q.to(torch.int8)
    if q.is_cuda and rows < _LEAST_CUDA_ROWS:
        q = torch.nn.functional.pad(q, (0, 0, 0, _LEAST_CUDA_ROWS - rows))
    return torch._int_mm(q, codes.t())[:rows]


def packed_sums(q: Tensor, packed: Tensor) -> Tensor:
    """Multiply ``q: [M, K]`` by ``packed: [N, ceil(K / 256) * 64]`` uint8 on a CPU; [M, N] int32, exact.

    One field at a time: ``byte & mask`` is ``(w + 1) 4**field``, for the highest field ``64 w``, so a field is an int8
    operand as it is. No more than a quarter of the unpacked weights is in memory at any time.
    """
    width = packed.shape[1] // _BLOCK_BYTES * _BLOCK_COLUMNS
    codes = torch.nn.functional.pad(q.to(torch.int8), (0, width - q.shape[1]))
    fields = codes.view(len(codes), -1, 4, _BLOCK_BYTES).permute(2, 0, 1, 3).reshape(4, len(codes), -1)
    # What the lower three fields add to every sum, because they hold w + 1.
    sums = -fields[:3].sum(dim=(0, 2), dtype=torch.int32)[:, None]
    for number, field in enumerate(fields):
        operand = (packed & (3 << 2 * number)).view(torch.int8)
        sums = sums + (torch._int_mm(field, operand.t()) >> 2 * number)
    return sums
