"""What must row quantisation compute? Plain torch, readable, no faster than it needs to be.

For a row x with ``a = max(max |x|, Q S_MIN)`` the scale is ``s = a / Q``, returned as fp32, and the codes are
``q = round_half_even(x / s)``. The quotient is taken as ``x Q / a`` in fp64: x Q is exact there, so an exact tie (in
bf16 one element in a thousand is half the largest of its row, which makes 63.5) is decided by round_half_even, and not
by how s happened to be rounded.
"""

from __future__ import annotations

import torch

from perf_kernels.rows import LARGEST_CODE, SMALLEST_SCALE


def quantize_rows_reference(x: torch.Tensor, dtype: torch.dtype = torch.int8) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise each row of ``x: [M, K]`` in plain torch; :func:`quantize_rows` gives the same codes and scales.

    Needs some 30 bytes an element: pass large inputs in slices of rows.

    Returns:
        ``q``: [M, K] ``dtype``, and ``scale``: [M] fp32. A row with an infinity or a NaN has that as its
        scale and codes 0.
    """
    largest = _largest_magnitude(x).clamp_min(LARGEST_CODE[dtype] * SMALLEST_SCALE)
    scale = (largest / LARGEST_CODE[dtype]).float()
    codes = torch.where(largest.isfinite()[:, None], quotients(x, dtype), 0.0)
    # fp64 to fp32 to FP8: the fp32 step gives what a correctly rounded fp32 division would.
    return (codes.round().to(dtype) if dtype is torch.int8 else codes.float().to(dtype)), scale


def quotients(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Give ``x / s`` before it is rounded, ``[M, K]`` fp64 in [-Q, Q]; NaN where the row is not finite."""
    largest = _largest_magnitude(x).clamp_min(LARGEST_CODE[dtype] * SMALLEST_SCALE)
    return x.double() * LARGEST_CODE[dtype] / largest[:, None]


def dequantize(q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Give ``q * scale`` for ``q: [M, K]`` and ``scale: [M]`` as [M, K] fp32, NaN where the scale is not finite."""
    return q.float() * scale[:, None]


def round_trip_error(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Give the largest ``|x - q s| / s`` over all elements: at most one half for INT8 (scalar tensor, fp64, unit 1)."""
    return ((x.double() - q.double() * scale.double()[:, None]).abs() / scale.double()[:, None]).max()


def _largest_magnitude(x: torch.Tensor) -> torch.Tensor:
    """Give max |x| of each row in fp64; NaN propagates."""
    return x.abs().amax(dim=1).double() if x.shape[1] else x.new_zeros(x.shape[0], dtype=torch.float64)
