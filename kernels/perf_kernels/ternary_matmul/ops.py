"""How do models call our kernels? By a function that checks and launches, and is one operator to ``torch.compile``."""

from __future__ import annotations

import torch
import triton

from perf_kernels.target import current_target, launch_beside
from perf_kernels.ternary_matmul.arguments import check
from perf_kernels.ternary_matmul.kernel import _batch_kernel, _quantize_kernel
from perf_kernels.ternary_matmul.launch import (
    LaunchConfig,
    check_token_config,
    dot_instruction,
    launch_config,
    quantize_tile,
    shape_class,
)
from perf_kernels.ternary_matmul.reference import BLOCK_BYTES, BLOCK_COLUMNS
from perf_kernels.ternary_matmul.token_kernel import _token_kernel
from perf_kernels.tuned import Chooser


def ternary_matmul(
    x: torch.Tensor,
    packed: torch.Tensor,
    gamma: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    out_dtype: torch.dtype | None = None,
    config: LaunchConfig | None = None,
) -> torch.Tensor:
    """Multiply activations, quantised to int8 token by token, by packed ternary weights.

    Equals :func:`ternary_matmul_reference`: the int32 sums bit for bit. A token that holds an infinity or a NaN gives
    NaN (0 as int32). A token's result depends on its values alone, not on its position, strides or the launch. Works
    under ``torch.compile``, as the operator ``perf_kernels::ternary_matmul``.

    Args:
        x: [..., K] bf16, fp16 or fp32, K at most 2**17; rows with unit column stride are fast.
        packed: [N, ceil(K / 256) * 64] uint8, contiguous, from :func:`pack_ternary`.
        gamma: scale of the weights, one fp32 on the same device, from :func:`quantize_weight`.
        bias: [N], of x's data type.
        out_dtype: bf16, fp16, fp32, or int32 for the bare sums; by default x's.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
            Not under ``torch.compile``.

    Returns:
        y: [..., N].

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape or device that cannot be used.
    """
    out_dtype = out_dtype or x.dtype
    check(x, packed, gamma, bias, out_dtype)
    if torch.compiler.is_compiling():
        return torch.ops.perf_kernels.ternary_matmul(x, packed, gamma, bias, out_dtype)
    return _multiply(x, packed, gamma, bias, out_dtype, config)


def _multiply(
    x: torch.Tensor,
    packed: torch.Tensor,
    gamma: torch.Tensor,
    bias: torch.Tensor | None,
    out_dtype: torch.dtype,
    config: LaunchConfig | None = None,
) -> torch.Tensor:
    outputs = packed.shape[0]
    y = torch.empty((*x.shape[:-1], outputs), dtype=out_dtype, device=x.device)
    if y.numel() == 0:
        return y
    if x.shape[-1] == 0:
        return y.zero_() if bias is None else y.copy_(bias.expand_as(y))
    launch_beside(x, _launch, x.reshape(-1, x.shape[-1]), packed, gamma, bias, y, config)
    return y


def _fallback(tokens: int, outputs: int, width: int) -> LaunchConfig:
    return launch_config(tokens, outputs, width, current_target())


choose = Chooser("ternary_matmul", _fallback, shape_class)


def _launch(
    x: torch.Tensor,
    packed: torch.Tensor,
    gamma: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    config: LaunchConfig | None,
) -> None:
    (tokens, width), outputs = x.shape, packed.shape[0]
    if config is None:
        config = choose(tokens, outputs, width)
    blocks = packed.shape[1] // BLOCK_BYTES
    across = triton.cdiv(outputs, config.step)
    if tokens == 1:
        check_token_config(config)
        # Words of 32 bits, 16 bytes a load: a row is a multiple of 64 bytes, where it begins may be any.
        words = (packed.clone() if packed.data_ptr() % 16 else packed).view(torch.int32)
        _token_kernel[(across,)](
            x,
            words,
            gamma,
            bias,
            y,
            width,
            outputs,
            words.shape[1],
            config.step,
            x.stride(1),
            config.outputs,
            config.slices,
            config.tiles(width),
            dot_instruction(current_target()),
            num_warps=config.num_warps,
            num_stages=config.num_stages,
        )
        return
    q = torch.empty((tokens, blocks * BLOCK_COLUMNS), dtype=torch.int8, device=x.device)
    factor = torch.empty((tokens,), dtype=torch.float32, device=x.device)
    excess = torch.empty((tokens,), dtype=torch.int32, device=x.device)
    tile, num_warps = quantize_tile(q.shape[1])
    _quantize_kernel[(tokens,)](
        x,
        gamma,
        q,
        factor,
        excess,
        width,
        q.shape[1],
        x.stride(0),
        x.stride(1),
        tile,
        triton.cdiv(q.shape[1], tile),
        num_warps=num_warps,
    )
    _batch_kernel[(across * triton.cdiv(tokens, config.tokens),)](
        q,
        factor,
        excess,
        packed,
        bias,
        y,
        tokens,
        outputs,
        blocks,
        config.tokens,
        config.outputs,
        config.slices,
        config.tiles(width),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )


@torch.library.custom_op(
    "perf_kernels::ternary_matmul",
    mutates_args=(),
    schema="(Tensor x, Tensor packed, Tensor gamma, Tensor? bias, ScalarType out_dtype) -> Tensor",
)
def _operator(
    x: torch.Tensor, packed: torch.Tensor, gamma: torch.Tensor, bias: torch.Tensor | None, out_dtype: torch.dtype
) -> torch.Tensor:
    check(x, packed, gamma, bias, out_dtype)
    return _multiply(x, packed, gamma, bias, out_dtype)


@_operator.register_fake
def _(
    x: torch.Tensor, packed: torch.Tensor, gamma: torch.Tensor, bias: torch.Tensor | None, out_dtype: torch.dtype
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], packed.shape[0]), dtype=out_dtype)
