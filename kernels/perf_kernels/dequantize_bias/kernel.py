"""How are the accumulators of a quantised matrix multiplication scaled back in one pass over memory?

``y[m, n] = fma(acc[m, n] s_a[m], s_b[n], bias[n])`` in fp32, and one rounding to the type of the result. The order
matters: s_a s_b alone can be below the smallest fp32 where the product of all three is not. A tile's row and column
numbers are 64 bits wide: a prompt of 65536 tokens passes 2**31 elements at 37888 columns.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from perf_kernels.dequantize_bias.launch import LaunchConfig, launch_config, shape_class
from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE
from perf_kernels.tuned import Chooser


@triton.jit
def _kernel(
    acc_ptr,
    row_scale_ptr,
    column_scale_ptr,
    bias_ptr,
    y_ptr,
    rows,
    columns,
    column_blocks,
    acc_row_stride,
    acc_column_stride,
    y_row_stride,
    HAS_BIAS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Make one tile a program; tiles follow each other along the rows."""
    tile = tl.program_id(0)
    row = (tile // column_blocks).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = (tile % column_blocks).to(tl.int64) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    # A thread takes 4 columns, 16 bytes of accumulators. With 8, 16 bytes of bf16, threads would have to trade.
    column = tl.max_contiguous(column, 4)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    acc_pointers = acc_ptr + row[:, None] * acc_row_stride + column[None, :] * acc_column_stride
    acc = tl.load(acc_pointers, mask=inside, other=0)
    row_scale = tl.load(row_scale_ptr + row, mask=row < rows, other=0.0)
    column_scale = tl.load(column_scale_ptr + column, mask=column < columns, other=0.0)
    scaled = acc.to(tl.float32) * row_scale[:, None]
    factor = tl.broadcast_to(column_scale[None, :], [BLOCK_ROWS, BLOCK_COLUMNS])
    if HAS_BIAS:
        bias = tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)
        y = tl.fma(scaled, factor, tl.broadcast_to(bias[None, :], [BLOCK_ROWS, BLOCK_COLUMNS]))
    else:
        y = scaled * factor
    tl.store(y_ptr + row[:, None] * y_row_stride + column[None, :], y.to(y_ptr.dtype.element_ty), mask=inside)


def dequantize_bias(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor,
    bias: torch.Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
    *,
    config: LaunchConfig | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scale accumulators back: ``y[m, n] = acc[m, n] row_scale[m] column_scale[n] + bias[n]``.

    In fp32, rounded once to the type of the result. An INT32 accumulator past 2**24 is rounded to fp32 first. Equals
    :func:`dequantize_bias_reference` bit for bit.

    Under ``torch.compile`` this is the operator ``perf_kernels::dequantize_bias``.

    Args:
        acc: [M', N'] int32 or fp32, any strides, M' >= M and N' >= N: padding rows and columns are not read. Unit
            column stride and rows that start at multiples of 16 elements are fast, and so is the transpose of that
            (what cuSPARSELt gives); other strides are correct.
        row_scale: [M] fp32, contiguous: s_a, of the activations.
        column_scale: [N] fp32, contiguous: s_b, of the weights.
        bias: [N] bf16, fp16 or fp32, contiguous.
        dtype: of the result, bf16, fp16 or fp32.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
        out: tensor to write to, [M, N] of ``dtype`` with unit column stride.

    Returns:
        ``y``: [M, N] ``dtype``.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape, device or ``out`` that cannot be used.
    """
    if torch.compiler.is_compiling() and config is None and out is None:
        return torch.ops.perf_kernels.dequantize_bias(acc, row_scale, column_scale, bias, dtype)
    _check(acc, row_scale, column_scale, bias, dtype)
    if acc.device.type != DEVICE_TYPE:
        raise ValueError(f"dequantize_bias: acc is on {acc.device}; {DEVICE_HINT}")
    rows, columns = len(row_scale), len(column_scale)
    if out is None:
        y = torch.empty((rows, columns), dtype=dtype, device=acc.device)
    else:
        y = _checked_out(out, rows, columns, dtype, acc.device)
    if rows == 0 or columns == 0:
        return y
    if acc.is_cuda and acc.device.index != torch.cuda.current_device():
        with torch.cuda.device(acc.device):
            _launch(acc, row_scale, column_scale, bias, y, config)
    else:
        _launch(acc, row_scale, column_scale, bias, y, config)
    return y


@torch.library.custom_op(
    "perf_kernels::dequantize_bias",
    mutates_args=(),
    schema="(Tensor acc, Tensor row_scale, Tensor column_scale, Tensor? bias, ScalarType dtype) -> Tensor",
)
def _operator(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    return dequantize_bias(acc, row_scale, column_scale, bias, dtype)


@_operator.register_fake
def _(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    _check(acc, row_scale, column_scale, bias, dtype)
    return torch.empty((row_scale.shape[0], column_scale.shape[0]), dtype=dtype, device=acc.device)


_FLOATS = (torch.bfloat16, torch.float16, torch.float32)


def _check(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> None:
    if acc.dtype not in (torch.int32, torch.float32):
        raise TypeError(f"dequantize_bias: acc is {acc.dtype}; it must be torch.int32 or torch.float32")
    if dtype not in _FLOATS:
        raise TypeError(f"dequantize_bias: dtype is {dtype}; it must be torch.bfloat16, torch.float16 or torch.float32")
    if acc.ndim != 2:
        raise ValueError(f"dequantize_bias: acc has {acc.ndim} dimensions; it must have 2, rows and columns")
    for name, scale, limit in (("row_scale", row_scale, acc.shape[0]), ("column_scale", column_scale, acc.shape[1])):
        if scale.ndim != 1 or scale.shape[0] > limit or not _fits(scale, acc, (torch.float32,)):
            raise ValueError(
                f"dequantize_bias: {name} must be torch.float32 on {acc.device}, contiguous, one dimension of at most "
                f"{limit}; it is {_described(scale)}"
            )
    if bias is not None and (bias.shape != column_scale.shape or not _fits(bias, acc, _FLOATS)):
        raise ValueError(
            f"dequantize_bias: bias must be {list(column_scale.shape)} torch.bfloat16, torch.float16 or torch.float32 "
            f"on {acc.device}, contiguous; it is {_described(bias)}"
        )


def _fits(vector: torch.Tensor, acc: torch.Tensor, dtypes: tuple[torch.dtype, ...]) -> bool:
    return vector.dtype in dtypes and vector.device == acc.device and vector.is_contiguous()


def _described(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {tensor.dtype} on {tensor.device} with strides {list(tensor.stride())}"


def _checked_out(out: torch.Tensor, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Give ``out`` if it can take the result, else raise ValueError."""
    fits = out.shape == (rows, columns) and out.dtype == dtype and out.device == device
    if not fits or (out.numel() and out.stride(1) != 1):
        raise ValueError(
            f"dequantize_bias: out must be {[rows, columns]} {dtype} on {device} with unit column stride; "
            f"it is {_described(out)}"
        )
    return out


def _fallback(rows: int, columns: int, column_major: bool, itemsize: int) -> LaunchConfig:
    return launch_config(rows, columns, column_major)


choose = Chooser("dequantize_bias", _fallback, shape_class)


def _launch(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    config: LaunchConfig | None,
) -> None:
    rows, columns = y.shape
    row_stride, column_stride = acc.stride()
    if config is None:
        config = choose(rows, columns, row_stride == 1 and column_stride != 1, y.element_size())
    _kernel[(config.tiles(rows, columns),)](
        acc,
        row_scale,
        column_scale,
        column_scale if bias is None else bias,
        y,
        rows,
        columns,
        -(-columns // config.block_columns),
        row_stride,
        column_stride,
        y.stride(0),
        bias is not None,
        config.block_rows,
        config.block_columns,
        num_warps=config.num_warps,
    )
