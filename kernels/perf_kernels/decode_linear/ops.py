"""How do models call our kernels? By a function that checks and launches, and is one operator to ``torch.compile``."""

from __future__ import annotations

import torch
import triton

from perf_kernels.decode_linear.arguments import check
from perf_kernels.decode_linear.formats import AS_THEY_ARE, DENSE, PACKED, SCALED, TO_FP8, TO_INT8
from perf_kernels.decode_linear.kernel import _batch_kernel
from perf_kernels.decode_linear.launch import WORD, LaunchConfig, block_tokens, launch_config, piece, shape_class
from perf_kernels.decode_linear.token_kernel import _token_kernel
from perf_kernels.target import current_target
from perf_kernels.tuned import Chooser

_CODES = {None: AS_THEY_ARE, torch.int8: TO_INT8, torch.float8_e4m3fn: TO_FP8}
#: Their names in classes of shapes.
_CODES_NAMES = {None: "", torch.int8: "int8", torch.float8_e4m3fn: "fp8"}


def decode_linear(
    x: torch.Tensor,
    values: torch.Tensor,
    scale: torch.Tensor | None = None,
    *,
    norm: torch.Tensor | None = None,
    epsilon: float = 1e-6,
    residual: torch.Tensor | None = None,
    gated: bool = False,
    codes: torch.dtype | None = None,
    out_dtype: torch.dtype | None = None,
    config: LaunchConfig | None = None,
) -> torch.Tensor:
    """Multiply a few tokens by the weights of a linear layer, stored in 16, 8 or 4 bits, each read once for up to 32.

    ``y = rms_norm(x) W^T + residual``, or, gated, ``silu(rms_norm(x) Wg^T) * (rms_norm(x) Wu^T)``. Sums are fp32; y is
    rounded once. Works under ``torch.compile``, as the operator ``perf_kernels::decode_linear``. What is not finite
    shows in the outputs that it is a part of, of its token and of its row of weights, and in no other.

    Args:
        x: [..., K] bf16, fp16 or fp32, 1 to 64 tokens; other strides than those of contiguous rows cost a copy.
        values: [N, K] of x's type, int8 or FP8 e4m3, or [N, K / 8] int32, packed by :func:`pack_int4`; contiguous.
        scale: None, [N] fp32 for int8 and FP8, or [N, K / G] int32, packed, for 4 bits.
        norm: [K], weights of an RMS norm before the product.
        epsilon: of that norm.
        residual: [..., N], added.
        gated: values hold gates [N / 2, K] and then the rows that they are multiplied with.
        codes: round the activations of each token to int8 or FP8 e4m3, by its largest magnitude.
        out_dtype: bf16, fp16 or fp32; by default x's.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
            Not under ``torch.compile``.

    Returns:
        y: [..., N], gated [..., N / 2].

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape or device that cannot be used.
    """
    out_dtype = out_dtype or x.dtype
    check(x, values, scale, norm, residual, gated, codes, out_dtype)
    if torch.compiler.is_compiling():
        return torch.ops.perf_kernels.decode_linear(x, values, scale, norm, epsilon, residual, gated, codes, out_dtype)
    return _multiply(x, values, scale, norm, epsilon, residual, gated, codes, out_dtype, config)


def _multiply(
    x: torch.Tensor,
    values: torch.Tensor,
    scale: torch.Tensor | None,
    norm: torch.Tensor | None,
    epsilon: float,
    residual: torch.Tensor | None,
    gated: bool,
    codes: torch.dtype | None,
    out_dtype: torch.dtype,
    config: LaunchConfig | None = None,
) -> torch.Tensor:
    outputs = values.shape[0] // (2 if gated else 1)
    y = torch.empty((*x.shape[:-1], outputs), dtype=out_dtype, device=x.device)
    arguments = (x.reshape(-1, x.shape[-1]).contiguous(), values, scale, norm, residual, y, epsilon, gated, codes)
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            _launch(*arguments, config)
    else:
        _launch(*arguments, config)
    return y


def _fallback(
    tokens: int, outputs: int, stride: int, itemsize: int, packed: bool, gated: bool, codes: str
) -> LaunchConfig:
    target = current_target()
    cramped = target.backend == "hip" and target.lanes == 32
    return launch_config(tokens, outputs, stride, itemsize, packed, gated, cramped)


choose = Chooser("decode_linear", _fallback, shape_class)


def _launch(
    x: torch.Tensor,
    values: torch.Tensor,
    scale: torch.Tensor | None,
    norm: torch.Tensor | None,
    residual: torch.Tensor | None,
    y: torch.Tensor,
    epsilon: float,
    gated: bool,
    codes: torch.dtype | None,
    config: LaunchConfig | None,
) -> None:
    (tokens, width), outputs, stride = x.shape, y.shape[-1], values.shape[1]
    packed = values.dtype == torch.int32
    if config is None:
        config = choose(tokens, outputs, stride, values.element_size(), packed, gated, _CODES_NAMES[codes])
    group = width // scale.shape[1] if packed else WORD
    kind = PACKED if packed else DENSE if scale is None else SCALED
    pointers = (x, values, scale, norm, residual, y)
    sizes = (outputs, width, stride, epsilon, kind, group, _CODES[codes], gated)
    grid = (triton.cdiv(outputs, config.rows),)
    launch = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    if tokens == 1:
        tiles, tail = config.whole_tiles(stride), config.tail(stride, values.element_size())
        ragged = tiles * config.tile + tail != stride
        # Four neighbours are loaded as one number where all of them lie as such numbers do.
        neighbours = [tensor for tensor in (x, values, norm) if tensor is not None]
        fours = x.element_size() == 2 and width % 16 == 0 and all(each.data_ptr() % 8 == 0 for each in neighbours)
        cut = (config.rows, config.tile, tiles, tail, ragged)
        _token_kernel[grid](*pointers, *sizes, *cut, piece(values.element_size()), fours, **launch)
    else:
        block = block_tokens(tokens)
        grid = (*grid, triton.cdiv(tokens, block))
        cut = (block, tokens > block, config.rows, config.tile, config.tiles(stride))
        _batch_kernel[grid](*pointers, tokens, *sizes, *cut, **launch)


@torch.library.custom_op(
    "perf_kernels::decode_linear",
    mutates_args=(),
    schema="(Tensor x, Tensor values, Tensor? scale, Tensor? norm, float epsilon, Tensor? residual, bool gated, "
    "ScalarType? codes, ScalarType out_dtype) -> Tensor",
)
def _operator(
    x: torch.Tensor,
    values: torch.Tensor,
    scale: torch.Tensor | None,
    norm: torch.Tensor | None,
    epsilon: float,
    residual: torch.Tensor | None,
    gated: bool,
    codes: torch.dtype | None,
    out_dtype: torch.dtype,
) -> torch.Tensor:
    check(x, values, scale, norm, residual, gated, codes, out_dtype)
    return _multiply(x, values, scale, norm, epsilon, residual, gated, codes, out_dtype)


@_operator.register_fake
def _(
    x: torch.Tensor,
    values: torch.Tensor,
    scale: torch.Tensor | None,
    norm: torch.Tensor | None,
    epsilon: float,
    residual: torch.Tensor | None,
    gated: bool,
    codes: torch.dtype | None,
    out_dtype: torch.dtype,
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], values.shape[0] // (2 if gated else 1)), dtype=out_dtype)
