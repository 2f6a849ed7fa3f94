"""How do models call the kernel? By a function that checks and launches, and is one operator to ``torch.compile``."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from perf_kernels.arguments import check_device, check_quantizable, described
from perf_kernels.rows import LARGEST_CODE, SMALLEST_SCALE
from perf_kernels.slide_quantization.kernel import _one_pass_kernel, _two_pass_kernel
from perf_kernels.slide_quantization.launch import (
    GROUPS,
    WIDTH_MULTIPLE,
    LaunchConfig,
    cut,
    launch_config,
    padded_rows,
    shape_class,
    slid_width,
)
from perf_kernels.target import current_target, launch_beside
from perf_kernels.tuned import Chooser

#: Wider rows would overflow 32-bit offsets within a row of the result, which has 5 bytes for 3 columns where L = 12.
MAX_WIDTH = 2**29


def slide_quantize_rows(
    x: torch.Tensor,
    group: int,
    dtype: torch.dtype = torch.int8,
    *,
    config: LaunchConfig | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise each row of ``x`` with a scale of its own and slide it: overlapping windows of 4 within groups of L.

    Codes and scales are those of :func:`perf_kernels.row_quantization.quantize_rows`, bit for bit. With
    W = L / 2 - 1, ``q[m, 4 (g W + w) + l]`` is the code of ``x[m, g L + 2 w + l]``, so that a weight row with at most
    L - 2 non-zeros a group, slid likewise, gives the same products as before and has at most 2 of 4 non-zeros. Padding
    columns and rows hold code 0, padding rows the scale 1. L = 4 leaves a row as it is and only pads it.

    Under ``torch.compile`` this is the operator ``perf_kernels::slide_quantize_rows``.

    Args:
        x: [M, K] bf16, fp16 or fp32, any strides. Unit column stride and rows that start at multiples of 16 elements
            are fast; other strides are correct.
        group: L, one of 4, 6, 8, 10 and 12.
        dtype: ``torch.int8`` or ``torch.float8_e4m3fn``.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
        out: tensors to write to, ``q`` of ``dtype`` and ``scale`` fp32, both contiguous, as returned.

    Returns:
        ``q``: [M', K'] ``dtype`` with M' = :func:`padded_rows` (M) and K' = :func:`slid_width` (K, L), and
        ``scale``: [M'] fp32.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape, group size, device or ``out`` that cannot be used.
    """
    if torch.compiler.is_compiling() and config is None and out is None:
        return torch.ops.perf_kernels.slide_quantize_rows(x, group, dtype)
    _check(x, group, dtype)
    check_device("slide_quantize_rows", "x", x, dtype)
    q, scale = _empty(x, group, dtype) if out is None else _checked_out(out, x, group, dtype)
    rows, width = x.shape
    if rows == 0:
        return q, scale
    if width == 0:
        scale[:rows].fill_(SMALLEST_SCALE)
        scale[rows:].fill_(1.0)
        return q, scale
    launch_beside(x, _launch, x, group, q, scale, config)
    return q, scale


@torch.library.custom_op(
    "perf_kernels::slide_quantize_rows",
    mutates_args=(),
    schema="(Tensor x, int group, ScalarType dtype) -> (Tensor, Tensor)",
)
def _operator(x: torch.Tensor, group: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return slide_quantize_rows(x, group, dtype)


@_operator.register_fake
def _(x: torch.Tensor, group: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    _check(x, group, dtype)
    return _empty(x, group, dtype)


def _check(x: torch.Tensor, group: int, dtype: torch.dtype) -> None:
    check_quantizable("slide_quantize_rows", "x", x, dtype, MAX_WIDTH)
    if group not in GROUPS:
        raise ValueError(f"slide_quantize_rows: group is {group}; it must be 4, 6, 8, 10 or 12")


def _empty(x: torch.Tensor, group: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    rows = padded_rows(x.shape[0])
    q = torch.empty((rows, slid_width(x.shape[1], group)), dtype=dtype, device=x.device)
    return q, torch.empty((rows,), dtype=torch.float32, device=x.device)


def _checked_out(
    out: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, group: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give ``out`` if it can take the result for ``x``, else raise ValueError."""
    rows = padded_rows(x.shape[0])
    shapes = ((rows, slid_width(x.shape[1], group)), (rows,))
    for i, (tensor, shape, wanted) in enumerate(zip(out, shapes, (dtype, torch.float32), strict=True)):
        fits = tensor.shape == shape and tensor.dtype == wanted and tensor.device == x.device
        # Windows are stored as 32-bit words.
        if not fits or not tensor.is_contiguous() or tensor.storage_offset() * tensor.element_size() % 4:
            raise ValueError(
                f"slide_quantize_rows: out[{i}] must be {list(shape)} {wanted} on {x.device}, contiguous and aligned "
                f"to 4 bytes; it is {described(tensor)} and offset {tensor.storage_offset()}"
            )
    return out


def _fallback(rows: int, width: int, group: int, itemsize: int, integer: bool) -> LaunchConfig:
    return launch_config(rows, width, group, itemsize, current_target().lanes)


choose = Chooser("slide_quantization", _fallback, shape_class)


def _launch(x: torch.Tensor, group: int, q: torch.Tensor, scale: torch.Tensor, config: LaunchConfig | None) -> None:
    rows, width = x.shape
    lanes = current_target().lanes
    if config is None:
        config = choose(rows, width, group, x.element_size(), q.dtype == torch.int8)
    shape = cut(config, width, group, x.element_size(), lanes)
    stores = config.groups * (group // 2 - 1) // shape.across
    parts = triton.next_power_of_2(stores) if config.trade else 1
    code = tl.int8 if q.dtype is torch.int8 else tl.float8e4nv
    arguments = (x, q.view(torch.int32), scale, rows, width, q.shape[1] // WIDTH_MULTIPLE, *x.stride())
    constants = (code, LARGEST_CODE[q.dtype], group, config.groups, shape.vector, shape.across, parts, lanes)
    if config.one_pass:
        _one_pass_kernel[(len(q),)](
            *arguments, *constants, shape.units, shape.tiles, shape.whole, num_warps=config.num_warps
        )
    else:
        _two_pass_kernel[(len(q),)](*arguments, *constants, shape.units, shape.tiles, num_warps=config.num_warps)
