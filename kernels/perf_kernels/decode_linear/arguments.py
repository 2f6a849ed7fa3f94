"""Which arguments can a decode product be launched with?"""

from __future__ import annotations

import torch

from perf_kernels.arguments import FLOATS, check_device, check_type, described
from perf_kernels.decode_linear.launch import MAX_TOKENS, WORD

_NAME = "decode_linear"
#: Columns that a group of 4-bit weights is a multiple of: one thread's words are then of one group.
_GROUP_STEP = 32


def check(
    x: torch.Tensor,
    values: torch.Tensor,
    scale: torch.Tensor | None,
    norm: torch.Tensor | None,
    residual: torch.Tensor | None,
    gated: bool,
    codes: torch.dtype | None,
    out_dtype: torch.dtype,
) -> None:
    """Raise TypeError or ValueError for what cannot be multiplied."""
    check_type(_NAME, "x", x.dtype, FLOATS)
    check_type(_NAME, "out_dtype", out_dtype, FLOATS)
    if codes is not None:
        check_type(_NAME, "codes", codes, (torch.int8, torch.float8_e4m3fn))
    fp8 = torch.float8_e4m3fn in (values.dtype, codes)
    check_device(_NAME, "x", x, torch.float8_e4m3fn if fp8 else None)
    if x.ndim == 0 or not 1 <= x.numel() // max(x.shape[-1], 1) <= MAX_TOKENS or x.shape[-1] == 0:
        raise ValueError(f"{_NAME}: x is {list(x.shape)}; it must hold 1 to {MAX_TOKENS} tokens with columns")
    _check_weights(x, values, scale, gated)
    outputs = values.shape[0] // (2 if gated else 1)
    for name, tensor, shape in (("norm", norm, [x.shape[-1]]), ("residual", residual, [*x.shape[:-1], outputs])):
        if tensor is not None and (
            list(tensor.shape) != shape
            or tensor.dtype != x.dtype
            or tensor.device != x.device
            or not tensor.is_contiguous()
        ):
            raise ValueError(
                f"{_NAME}: {name} must be {shape} {x.dtype} on {x.device}, contiguous; it is {described(tensor)}"
            )


def _check_weights(x: torch.Tensor, values: torch.Tensor, scale: torch.Tensor | None, gated: bool) -> None:
    width = x.shape[-1]
    if values.dtype not in (x.dtype, torch.int8, torch.float8_e4m3fn, torch.int32):
        raise TypeError(
            f"{_NAME}: values are {values.dtype}; they must be {x.dtype} as x, torch.int8, torch.float8_e4m3fn, "
            "or torch.int32 for packed weights"
        )
    columns = width // WORD if values.dtype == torch.int32 else width
    if (
        values.ndim != 2
        or values.shape[1] != columns
        or values.shape[0] < 1
        or values.device != x.device
        or not values.is_contiguous()
    ):
        raise ValueError(
            f"{_NAME}: values must be [N, {columns}] on {x.device}, contiguous, for x with {width} columns; they "
            f"are {described(values)}"
        )
    rows = values.shape[0]
    if gated and rows % 2:
        raise ValueError(f"{_NAME}: values have {rows} rows; gated takes an even number, gates before the others")
    if values.dtype == x.dtype:
        needed, fits = "None for weights of x's type", scale is None
    elif values.dtype == torch.int32:
        needed = f"[{rows}, {width} / G] torch.int32 on {x.device}, contiguous, G a multiple of {_GROUP_STEP}"
        fits = (
            scale is not None
            and scale.ndim == 2
            and scale.shape[0] == rows
            and scale.dtype == torch.int32
            and scale.shape[1] > 0
            and width % (_GROUP_STEP * scale.shape[1]) == 0
        )
    else:
        needed = f"[{rows}] torch.float32 on {x.device}, contiguous"
        fits = scale is not None and list(scale.shape) == [rows] and scale.dtype == torch.float32
    if scale is not None:
        fits = fits and scale.device == x.device and scale.is_contiguous()
    if not fits:
        raise ValueError(f"{_NAME}: scale must be {needed}; it is {'None' if scale is None else described(scale)}")
