"""Which arguments can a ternary product be launched with?"""

from __future__ import annotations

import torch

from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE
from perf_kernels.ternary_matmul.reference import packed_bytes

#: Sums of wider rows would pass 2**24, to which fp32 holds integers exactly.
MAX_WIDTH = 2**17

_FLOATS = frozenset({torch.bfloat16, torch.float16, torch.float32})
_FLOAT_NAMES = "torch.bfloat16, torch.float16 or torch.float32"


def check(
    x: torch.Tensor, packed: torch.Tensor, gamma: torch.Tensor, bias: torch.Tensor | None, out_dtype: torch.dtype
) -> None:
    """Raise TypeError or ValueError for what cannot be multiplied."""
    if x.dtype not in _FLOATS:
        raise TypeError(f"ternary_matmul: x is {x.dtype}; it must be {_FLOAT_NAMES}")
    if out_dtype not in _FLOATS and out_dtype != torch.int32:
        raise TypeError(
            f"ternary_matmul: out_dtype is {out_dtype}; it must be torch.bfloat16, torch.float16, torch.float32 or "
            "torch.int32"
        )
    if x.ndim == 0:
        raise ValueError("ternary_matmul: x has no dimensions; it must have at least 1, its columns")
    if x.device.type != DEVICE_TYPE:
        raise ValueError(f"ternary_matmul: x is on {x.device}; {DEVICE_HINT}")
    width = x.shape[-1]
    if width > MAX_WIDTH:
        raise ValueError(f"ternary_matmul: x has rows of {width} elements; at most {MAX_WIDTH} are supported")
    if (
        packed.ndim != 2
        or packed.shape[1] != packed_bytes(width)
        or packed.dtype != torch.uint8
        or packed.device != x.device
        or not packed.is_contiguous()
    ):
        raise ValueError(
            f"ternary_matmul: packed must be [N, {packed_bytes(width)}] torch.uint8 on {x.device}, contiguous, for x "
            f"with {width} columns; it is {list(packed.shape)} {packed.dtype} on {packed.device} with strides "
            f"{list(packed.stride())}"
        )
    if gamma.numel() != 1 or gamma.dtype != torch.float32 or gamma.device != x.device:
        raise ValueError(
            f"ternary_matmul: gamma must be one torch.float32 on {x.device}; it is {list(gamma.shape)} {gamma.dtype} "
            f"on {gamma.device}"
        )
    if bias is not None and (
        out_dtype == torch.int32
        or bias.shape != packed.shape[:1]
        or bias.dtype != x.dtype
        or bias.device != x.device
        or not bias.is_contiguous()
    ):
        needed = "None for torch.int32" if out_dtype == torch.int32 else f"{[packed.shape[0]]} {x.dtype} on {x.device}"
        raise ValueError(
            f"ternary_matmul: bias must be {needed}, contiguous; it is {list(bias.shape)} {bias.dtype} on "
            f"{bias.device} with strides {list(bias.stride())}"
        )
