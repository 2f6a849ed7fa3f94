"""How do models call the kernel? By a function that checks and launches, and is one operator to ``torch.compile``."""

from __future__ import annotations

import torch

from perf_kernels.arguments import check_device, check_out, check_quantizable
from perf_kernels.row_launch import LaunchConfig, launch_rows, row_chooser
from perf_kernels.rows import SMALLEST_SCALE
from perf_kernels.silu_mul_quantization.kernel import _one_pass_kernel, _two_pass_kernel
from perf_kernels.silu_mul_quantization.launch import launch_config
from perf_kernels.target import launch_beside

#: Wider inputs would overflow the 32-bit loop over a row's tiles.
MAX_WIDTH = 2**30


def silu_mul_quantize(
    gate_up: torch.Tensor,
    dtype: torch.dtype = torch.int8,
    *,
    config: LaunchConfig | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise the rows of ``silu(gate) * up`` with a scale each, where ``gate_up`` holds both side by side.

    The product is computed in fp32 and rounded to the input's type; its codes and scales are then those of
    :func:`perf_kernels.row_quantization.quantize_rows`. A product beyond the range of fp16 is an infinity: such a row
    gives the scale inf, a row with a NaN (an infinity times 0, or a gate of minus infinity) the scale NaN, and both
    give codes 0.

    Under ``torch.compile`` this is the operator ``perf_kernels::silu_mul_quantize``.

    Args:
        gate_up: [M, 2 I] bf16, fp16 or fp32, any strides: gate in the columns before I, up in those from I on. Unit
            column stride, rows that start at multiples of 16 elements and an I that is one are fast.
        dtype: ``torch.int8`` or ``torch.float8_e4m3fn``.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
        out: tensors to write to, ``q`` [M, I] of ``dtype`` with unit column stride and ``scale`` [M] fp32, contiguous.

    Returns:
        ``q``: [M, I] ``dtype``, and ``scale``: [M] fp32. ``q * scale[:, None]`` approximates the product.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape, device or ``out`` that cannot be used.
    """
    if torch.compiler.is_compiling() and config is None and out is None:
        return torch.ops.perf_kernels.silu_mul_quantize(gate_up, dtype)
    _check(gate_up, dtype)
    check_device("silu_mul_quantize", "gate_up", gate_up, dtype)
    if out is None:
        q, scale = _empty(gate_up, dtype)
    else:
        q, scale = out
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        check_out("silu_mul_quantize", "out[0]", q, (rows, width), dtype, gate_up.device)
        check_out("silu_mul_quantize", "out[1]", scale, (rows,), torch.float32, gate_up.device)
    if q.shape[0] == 0:
        return q, scale
    if q.shape[1] == 0:
        return q, scale.fill_(SMALLEST_SCALE)
    launch_beside(gate_up, _launch, gate_up, q, scale, config)
    return q, scale


@torch.library.custom_op(
    "perf_kernels::silu_mul_quantize",
    mutates_args=(),
    schema="(Tensor gate_up, ScalarType dtype) -> (Tensor, Tensor)",
)
def _operator(gate_up: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return silu_mul_quantize(gate_up, dtype)


@_operator.register_fake
def _(gate_up: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    _check(gate_up, dtype)
    return _empty(gate_up, dtype)


def _check(gate_up: torch.Tensor, dtype: torch.dtype) -> None:
    check_quantizable("silu_mul_quantize", "gate_up", gate_up, dtype, MAX_WIDTH)
    if gate_up.shape[1] % 2:
        raise ValueError(
            f"silu_mul_quantize: gate_up has rows of {gate_up.shape[1]} elements; it must have two equal halves"
        )


def _empty(gate_up: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    rows, width = gate_up.shape
    q = torch.empty((rows, width // 2), dtype=dtype, device=gate_up.device)
    return q, torch.empty((rows,), dtype=torch.float32, device=gate_up.device)


choose = row_chooser("silu_mul_quantization", launch_config)


def _launch(gate_up: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, config: LaunchConfig | None) -> None:
    rows, width = q.shape
    if config is None:
        config = choose(rows, width, gate_up.element_size(), q.dtype == torch.int8)
    row_stride, column_stride = gate_up.stride()
    arguments = (gate_up, q, scale, width, width * column_stride, row_stride, column_stride, q.stride(0))
    launch_rows(_one_pass_kernel, _two_pass_kernel, config, arguments, q)
