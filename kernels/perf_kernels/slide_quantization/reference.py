"""What must quantising and sliding compute? Plain torch, readable, no faster than it needs to be.

A group of L columns becomes W = L / 2 - 1 windows of 4, each 2 columns to the right of the one before it:
``slid[4 (g W + w) + l] = x[g L + 2 w + l]``.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from perf_kernels.row_quantization import quantize_rows_reference
from perf_kernels.slide_quantization.launch import padded_rows, slid_width


def slide_quantize_rows_reference(
    x: torch.Tensor, group: int, dtype: torch.dtype = torch.int8
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise each row of ``x: [M, K]`` and slide it; :func:`slide_quantize_rows` gives the same bits.

    Needs some 30 bytes an element: pass large inputs in slices of 16 k rows.

    Returns:
        ``q``: [M', K'] ``dtype``, and ``scale``: [M'] fp32; padding is 0 in ``q`` and 1 in ``scale``.
    """
    q, scale = quantize_rows_reference(x, dtype)
    more = padded_rows(len(x)) - len(x)
    # Not every operation knows FP8; a code of 0 is a byte of 0 in both types.
    codes = pad(slide(q.view(torch.uint8), group), (0, 0, 0, more))
    return codes.view(dtype), pad(scale, (0, more), value=1.0)


def slide(x: torch.Tensor, group: int) -> torch.Tensor:
    """Write out the windows of the rows of ``x: [M, K]``: [M, K'] of the same type, padded with 0."""
    rows, width = x.shape
    groups = -(-width // group)
    x = pad(x, (0, groups * group - width)).reshape(rows, groups, group)
    # [rows, groups, windows, 4]
    windows = x.unfold(2, 4, 2).reshape(rows, groups * (group // 2 - 1) * 4)
    return pad(windows, (0, slid_width(width, group) - windows.shape[1]))
