"""How do several tokens meet the weights of a linear layer in 16, 8 or 4 bits, each read once for up to 32 tokens?

On tensor cores, with weights as the left operand, because its 16 rows are then all in use. One token alone has a
kernel of its own: :mod:`perf_kernels.decode_linear.token_kernel`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.decode_linear.formats import (
    _AS_THEY_ARE,
    _PACKED,
    _SCALED,
    _code_scale,
    _coded,
    _column,
    _group_scale,
)


@triton.jit
def _factors(
    x_rows,
    norm_ptr,
    wanted,
    width,
    epsilon,
    CODES: tl.constexpr,
    TOKENS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Give for each token what the norm multiplies it with, and what makes codes of that."""
    squares = tl.zeros([TOKENS, TILE], tl.float32)
    top = tl.zeros([TOKENS, TILE], tl.float32)
    for i in range(tl.cdiv(width, TILE)):
        column = (i * TILE + tl.arange(0, TILE))[None, :]
        inside = wanted[:, None] & (column < width)
        x = tl.load(x_rows[:, None] + column, mask=inside, other=0.0).to(tl.float32)
        squares += x * x
        if norm_ptr is not None:
            x *= tl.load(norm_ptr + column, mask=column < width, other=0.0).to(tl.float32)
        top = tl.maximum(top, tl.abs(x))
    norm = tl.full([TOKENS], 1.0, tl.float32)
    if norm_ptr is not None:
        norm = tl.rsqrt(tl.sum(squares, axis=1) / width + epsilon)
    scale = tl.full([TOKENS], 1.0, tl.float32)
    if CODES != _AS_THEY_ARE:
        scale = _code_scale(tl.max(top, axis=1), CODES)
    return norm, scale


@triton.jit
def _operand(x_rows, norm_ptr, column, here, wanted, norm, scale, CODES: tl.constexpr):
    """Give activations [columns, tokens], normed and rounded, in the type of x."""
    x = tl.load(x_rows[None, :] + column[:, None], mask=here[:, None] & wanted[None, :], other=0.0)
    dtype: tl.constexpr = x.dtype
    if norm_ptr is not None:
        g = tl.load(norm_ptr + column, mask=here, other=0.0).to(tl.float32)
        # Codes are made of x g: the factor of the norm is in their scale.
        x = x.to(tl.float32) * g[:, None]
        if CODES == _AS_THEY_ARE:
            x = x * norm[None, :]
    return _coded(x.to(tl.float32), scale[None, :], CODES).to(dtype)


@triton.jit
def _as(weights, dtype: tl.constexpr):
    """Give weights as the type of x. Codes by way of fp32, as a GPU does: the interpreter has no other way to bf16."""
    if weights.dtype == dtype:
        return weights
    else:
        return weights.to(tl.float32).to(dtype)


@triton.jit
def _unpacked(words, s, zero, NIBBLE: tl.constexpr):
    """Give the weights in one nibble of each word, fp32."""
    return s * (((words >> 4 * NIBBLE) & 15).to(tl.float32) - zero)


@triton.jit
def _batch_kernel(
    x_ptr,
    weight_ptr,
    scale_ptr,
    norm_ptr,
    residual_ptr,
    y_ptr,
    tokens,
    outputs,
    width,
    stride,
    epsilon,
    FORMAT: tl.constexpr,
    GROUP: tl.constexpr,
    CODES: tl.constexpr,
    GATED: tl.constexpr,
    TOKENS: tl.constexpr,
    MORE: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
):
    """Give ``ROWS`` outputs of ``TOKENS`` tokens a program; otherwise as the kernel for one token.

    ``MORE`` says whether there are more tokens than that.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < outputs
    token = tl.arange(0, TOKENS)
    if MORE:
        token += tl.program_id(1).to(tl.int64) * TOKENS
    wanted = token < tokens
    x_rows = x_ptr + token.to(tl.int64) * width
    weights = weight_ptr + row[:, None] * stride
    up_weights = weights + tl.cast(outputs, tl.int64) * stride
    norm = tl.full([TOKENS], 1.0, tl.float32)
    scale = tl.full([TOKENS], 1.0, tl.float32)
    if norm_ptr is not None or CODES != _AS_THEY_ARE:
        norm, scale = _factors(x_rows, norm_ptr, wanted, width, epsilon, CODES, TOKENS, TILE)

    sums = tl.zeros([ROWS, TOKENS], tl.float32)
    up_sums = tl.zeros([ROWS, TOKENS], tl.float32)
    for i in range(TILES):
        at = i * TILE + tl.arange(0, TILE)
        here = at < stride
        mask = inside[:, None] & here[None, :]
        w = tl.load(weights + at[None, :], mask=mask, other=0.0)
        if GATED:
            up = tl.load(up_weights + at[None, :], mask=mask, other=0.0)
        if FORMAT == _PACKED:
            groups = stride // (GROUP // 8)
            group = row[:, None] * groups + (at // (GROUP // 8))[None, :]
            s, zero = _group_scale(tl.load(scale_ptr + group, mask=mask, other=0))
            if GATED:
                up_group = group + tl.cast(outputs, tl.int64) * groups
                up_s, up_zero = _group_scale(tl.load(scale_ptr + up_group, mask=mask, other=0))
            for nibble in tl.static_range(8):
                x = _operand(x_rows, norm_ptr, _column(at, nibble, GROUP, FORMAT), here, wanted, norm, scale, CODES)
                sums = tl.dot(_unpacked(w, s, zero, nibble).to(x.dtype), x, sums, input_precision="ieee")
                if GATED:
                    up_sums = tl.dot(
                        _unpacked(up, up_s, up_zero, nibble).to(x.dtype), x, up_sums, input_precision="ieee"
                    )
        else:
            x = _operand(x_rows, norm_ptr, at, here, wanted, norm, scale, CODES)
            sums = tl.dot(_as(w, x.dtype), x, sums, input_precision="ieee")
            if GATED:
                up_sums = tl.dot(_as(up, x.dtype), x, up_sums, input_precision="ieee")

    y, u = sums, up_sums
    if CODES != _AS_THEY_ARE:
        y, u = y * (norm / scale)[None, :], u * (norm / scale)[None, :]
    if FORMAT == _SCALED:
        y *= tl.load(scale_ptr + row, mask=inside, other=0.0)[:, None]
    if GATED:
        if FORMAT == _SCALED:
            u *= tl.load(scale_ptr + outputs + row, mask=inside, other=0.0)[:, None]
        y = y * tl.sigmoid(y) * u
    place = token[None, :] * tl.cast(outputs, tl.int64) + row[:, None]
    stored = wanted[None, :] & inside[:, None]
    if residual_ptr is not None:
        y += tl.load(residual_ptr + place, mask=stored, other=0.0).to(tl.float32)
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=stored)
