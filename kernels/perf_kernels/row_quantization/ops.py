"""How do models call the kernel? By a function that checks and launches, and is one operator to ``torch.compile``."""

from __future__ import annotations

import torch

from perf_kernels.arguments import check_device, check_out, check_quantizable
from perf_kernels.row_launch import LaunchConfig, launch_rows, row_chooser
from perf_kernels.row_quantization.kernel import _one_pass_kernel, _two_pass_kernel
from perf_kernels.row_quantization.launch import launch_config
from perf_kernels.rows import SMALLEST_SCALE
from perf_kernels.target import launch_beside

#: Wider rows would overflow the 32-bit loop over a row's tiles.
MAX_WIDTH = 2**30


def quantize_rows(
    x: torch.Tensor,
    dtype: torch.dtype = torch.int8,
    *,
    config: LaunchConfig | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise each row of ``x`` with a scale of its own.

    A row of zeros gives codes 0 and the smallest scale, 2**-126. A row that holds an infinity but no NaN gives the
    scale inf, one that holds a NaN the scale NaN; the codes of both are 0, so that ``q * scale`` is NaN and the damage
    stays visible. A result depends on the row's values alone, not on its position, its strides or the launch. It equals
    :func:`quantize_rows_reference` bit for bit; INT8 codes from fp32 may differ by 1 where ``x / s`` is within fp32
    rounding of a tie.

    Under ``torch.compile`` this is the operator ``perf_kernels::row_quantization``.

    Args:
        x: [M, K] bf16, fp16 or fp32, any strides. Unit column stride and rows that start at multiples of 16 elements
            are fast; other strides are correct.
        dtype: ``torch.int8`` or ``torch.float8_e4m3fn``.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
            Not under ``torch.compile``.
        out: tensors to write to, ``q`` [M, K] of ``dtype`` with unit column stride and ``scale`` [M] fp32, contiguous.
            Not under ``torch.compile``.

    Returns:
        ``q``: [M, K] ``dtype``, and ``scale``: [M] fp32. ``q * scale[:, None]`` approximates ``x``.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape, device or ``out`` that cannot be used.
    """
    if torch.compiler.is_compiling() and config is None and out is None:
        return torch.ops.perf_kernels.row_quantization(x, dtype)
    _check(x, dtype)
    check_device("quantize_rows", "x", x, dtype)
    rows, width = x.shape
    if out is None:
        q, scale = _empty(x, dtype)
    else:
        q, scale = out
        check_out("quantize_rows", "out[0]", q, (rows, width), dtype, x.device)
        check_out("quantize_rows", "out[1]", scale, (rows,), torch.float32, x.device)
    if rows == 0:
        return q, scale
    if width == 0:
        return q, scale.fill_(SMALLEST_SCALE)
    launch_beside(x, _launch, x, q, scale, config)
    return q, scale


@torch.library.custom_op(
    "perf_kernels::row_quantization", mutates_args=(), schema="(Tensor x, ScalarType dtype) -> (Tensor, Tensor)"
)
def _operator(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return quantize_rows(x, dtype)


@_operator.register_fake
def _(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    _check(x, dtype)
    return _empty(x, dtype)


def _check(x: torch.Tensor, dtype: torch.dtype) -> None:
    check_quantizable("quantize_rows", "x", x, dtype, MAX_WIDTH)


def _empty(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    q = torch.empty(x.shape, dtype=dtype, device=x.device)
    return q, torch.empty(x.shape[:1], dtype=torch.float32, device=x.device)


choose = row_chooser("row_quantization", launch_config)


def _launch(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, config: LaunchConfig | None) -> None:
    rows, width = x.shape
    if config is None:
        config = choose(rows, width, x.element_size(), q.dtype == torch.int8)
    arguments = (x, q, scale, width, *x.stride(), q.stride(0))
    launch_rows(_one_pass_kernel, _two_pass_kernel, config, arguments, q)
