"""How do models call the kernel? By a function that checks and launches, and is one operator to ``torch.compile``."""

from __future__ import annotations

import torch

from perf_kernels.arguments import FLOATS, check_device, check_out, check_type, check_values, described
from perf_kernels.dequantize_bias.kernel import _kernel
from perf_kernels.dequantize_bias.launch import LaunchConfig, launch_config, shape_class
from perf_kernels.target import launch_beside
from perf_kernels.tuned import Chooser

_ACCUMULATORS = (torch.int32, torch.float32, torch.bfloat16)


def dequantize_bias(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor | None,
    bias: torch.Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
    *,
    config: LaunchConfig | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scale accumulators back: ``y[m, n] = acc[m, n] row_scale[m] column_scale[n] + bias[n]``.

    In fp32, rounded once to the type of the result. An INT32 accumulator past 2**24 is rounded to fp32 first. Equals
    :func:`dequantize_bias_reference` bit for bit. Without ``column_scale`` accumulators are what the multiplication
    applied it to already; bf16 ones may then be scaled in place, ``out=acc``.

    Under ``torch.compile`` this is the operator ``perf_kernels::dequantize_bias``.

    Args:
        acc: [M', N'] int32, fp32 or bf16, any strides, M' >= M and N' >= N: padding rows and columns are not read. Unit
            column stride and rows that start at multiples of 16 elements are fast, and so is the transpose of that
            (what cuSPARSELt gives); other strides are correct.
        row_scale: [M] fp32, contiguous: s_a, of the activations.
        column_scale: [N] fp32, contiguous: s_b, of the weights; None where it was applied, and then N = N'.
        bias: [N] bf16, fp16 or fp32, contiguous.
        dtype: of the result, bf16, fp16 or fp32.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
        out: tensor to write to, [M, N] of ``dtype`` with unit column stride; its memory is its own, or its elements
            are those of ``acc`` at the same addresses.

    Returns:
        ``y``: [M, N] ``dtype``.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape, device or ``out`` that cannot be used.
    """
    if torch.compiler.is_compiling() and config is None and out is None:
        return torch.ops.perf_kernels.dequantize_bias(acc, row_scale, column_scale, bias, dtype)
    _check(acc, row_scale, column_scale, bias, dtype)
    check_device("dequantize_bias", "acc", acc)
    rows, columns = _shape(acc, row_scale, column_scale)
    if out is None:
        y = torch.empty((rows, columns), dtype=dtype, device=acc.device)
    else:
        y = out
        check_out("dequantize_bias", "out", y, (rows, columns), dtype, acc.device)
        _check_in_place(acc, y)
    if rows == 0 or columns == 0:
        return y
    launch_beside(acc, _launch, acc, row_scale, column_scale, bias, y, config)
    return y


@torch.library.custom_op(
    "perf_kernels::dequantize_bias",
    mutates_args=(),
    schema="(Tensor acc, Tensor row_scale, Tensor? column_scale, Tensor? bias, ScalarType dtype) -> Tensor",
)
def _operator(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    return dequantize_bias(acc, row_scale, column_scale, bias, dtype)


@_operator.register_fake
def _(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    _check(acc, row_scale, column_scale, bias, dtype)
    return torch.empty(_shape(acc, row_scale, column_scale), dtype=dtype, device=acc.device)


def _shape(acc: torch.Tensor, row_scale: torch.Tensor, column_scale: torch.Tensor | None) -> tuple[int, int]:
    return row_scale.shape[0], acc.shape[1] if column_scale is None else column_scale.shape[0]


def _check(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> None:
    check_values("dequantize_bias", "acc", acc, _ACCUMULATORS)
    check_type("dequantize_bias", "dtype", dtype, FLOATS)
    for name, scale, limit in (("row_scale", row_scale, acc.shape[0]), ("column_scale", column_scale, acc.shape[1])):
        if scale is None:
            continue
        if scale.ndim != 1 or scale.shape[0] > limit or not _fits(scale, acc, (torch.float32,)):
            raise ValueError(
                f"dequantize_bias: {name} must be torch.float32 on {acc.device}, contiguous, one dimension of at most "
                f"{limit}; it is {described(scale)}"
            )
    columns = _shape(acc, row_scale, column_scale)[1]
    if bias is not None and (bias.shape != (columns,) or not _fits(bias, acc, FLOATS)):
        raise ValueError(
            f"dequantize_bias: bias must be {[columns]} torch.bfloat16, torch.float16 or torch.float32 "
            f"on {acc.device}, contiguous; it is {described(bias)}"
        )


def _check_in_place(acc: torch.Tensor, y: torch.Tensor) -> None:
    """Check that no accumulator is overwritten before it is read."""
    if not acc.numel() or not y.numel():
        return
    (start, end), (other_start, other_end) = _span(acc), _span(y)
    same = start == other_start and acc.stride() == y.stride() and acc.element_size() == y.element_size()
    if start < other_end and other_start < end and not same:
        raise ValueError(
            f"dequantize_bias: out must have memory of its own, or the elements of acc at the same addresses; it is "
            f"{described(y)} over {described(acc)}"
        )


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """Give the addresses of a tensor's first byte and of the one after its last."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def _fits(vector: torch.Tensor, acc: torch.Tensor, dtypes: tuple[torch.dtype, ...]) -> bool:
    return vector.dtype in dtypes and vector.device == acc.device and vector.is_contiguous()


def _fallback(rows: int, columns: int, column_major: bool, itemsize: int, acc_itemsize: int = 4) -> LaunchConfig:
    return launch_config(rows, columns, column_major)


choose = Chooser("dequantize_bias", _fallback, shape_class)


def _launch(
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    config: LaunchConfig | None,
) -> None:
    rows, columns = y.shape
    row_stride, column_stride = acc.stride()
    if config is None:
        column_major = row_stride == 1 and column_stride != 1
        config = choose(rows, columns, column_major, y.element_size(), acc.element_size())
    _kernel[(config.tiles(rows, columns),)](
        acc,
        row_scale,
        row_scale if column_scale is None else column_scale,
        row_scale if bias is None else bias,
        y,
        rows,
        columns,
        -(-columns // config.block_columns),
        row_stride,
        column_stride,
        y.stride(0),
        column_scale is not None,
        bias is not None,
        config.block_rows,
        config.block_columns,
        config.group,
        num_warps=config.num_warps,
    )
