"""How does one new token of each sequence attend to a static cache, from its projections on, in one launch?

A program serves one head of keys and values, and the heads of queries that share it. It norms and rotates their
queries and the new key, stores key and value in the cache, and then goes through the cache before the new token. The
new token itself is where the running softmax starts, so nothing is read back that was just written.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _rotated(first, second, norm_ptr, cos, sin, epsilon, half, WIDTH: tl.constexpr):
    """Norm rows that come in halves, fp32, and rotate them: pairs are half a row apart."""
    mean = (tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)) / WIDTH
    factor = tl.rsqrt(mean + epsilon)[:, None]
    first = first * factor * tl.load(norm_ptr + half).to(tl.float32)[None, :]
    second = second * factor * tl.load(norm_ptr + WIDTH // 2 + half).to(tl.float32)[None, :]
    return first * cos - second * sin, second * cos + first * sin


@triton.jit
def _decode_kernel(
    qkv_ptr,
    q_norm_ptr,
    k_norm_ptr,
    cos_ptr,
    sin_ptr,
    position_ptr,
    keys_ptr,
    values_ptr,
    out_ptr,
    length,
    scale,
    epsilon,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    PADDED: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Serve one of ``HEADS`` heads of keys and values, ``GROUP`` heads of queries, of one sequence."""
    HALF: tl.constexpr = WIDTH // 2
    program = tl.program_id(0).to(tl.int64)
    sequence, head = program // HEADS, program % HEADS
    dtype: tl.constexpr = keys_ptr.dtype.element_ty
    half = tl.arange(0, HALF)
    column = tl.arange(0, WIDTH)
    position = tl.load(position_ptr)
    # Nobody has checked the position: behind the cache, the tables may end, too.
    fits = tl.full([HALF], 1, tl.int1) & (position < length)
    cos = tl.load(cos_ptr + position * WIDTH + half, mask=fits, other=0.0).to(tl.float32)[None, :]
    sin = tl.load(sin_ptr + position * WIDTH + half, mask=fits, other=0.0).to(tl.float32)[None, :]

    row = qkv_ptr + sequence * (HEADS * (GROUP + 2) * WIDTH)
    query = tl.arange(0, PADDED)
    inside = (query < GROUP)[:, None]
    queries = row + (head * GROUP + query)[:, None] * WIDTH + half[None, :]
    q1, q2 = _rotated(
        tl.load(queries, mask=inside, other=0.0).to(tl.float32),
        tl.load(queries + HALF, mask=inside, other=0.0).to(tl.float32),
        q_norm_ptr,
        cos,
        sin,
        epsilon,
        half,
        WIDTH,
    )
    q1, q2 = q1.to(dtype), q2.to(dtype)
    key = row + (HEADS * GROUP + head) * WIDTH + half[None, :]
    k1, k2 = _rotated(
        tl.load(key).to(tl.float32),
        tl.load(key + HALF).to(tl.float32),
        k_norm_ptr,
        cos,
        sin,
        epsilon,
        half,
        WIDTH,
    )
    k1, k2 = k1.to(dtype), k2.to(dtype)
    value = tl.load(row + (HEADS * (GROUP + 1) + head) * WIDTH + column)

    cache = program * length * WIDTH
    place = keys_ptr + cache + position * WIDTH + half[None, :]
    tl.store(place, k1, mask=fits[None, :])
    tl.store(place + HALF, k2, mask=fits[None, :])
    fits = tl.full([WIDTH], 1, tl.int1) & (position < length)
    tl.store(values_ptr + cache + position * WIDTH + column, value, mask=fits)

    # Scores are in units of log 2.
    factor = scale * _LOG2_E
    score = tl.sum(q1.to(tl.float32) * k1.to(tl.float32), axis=1) + tl.sum(
        q2.to(tl.float32) * k2.to(tl.float32), axis=1
    )
    top = score * factor
    total = tl.full([PADDED], 1.0, tl.float32)
    sums = tl.broadcast_to(value.to(tl.float32)[None, :], [PADDED, WIDTH])
    last = tl.minimum(position, length)
    for start in range(0, last, BLOCK):
        at = start + tl.arange(0, BLOCK)
        before = at < last
        tile = keys_ptr + cache + at[None, :] * WIDTH + half[:, None]
        old1 = tl.load(tile, mask=before[None, :], other=0.0)
        old2 = tl.load(tile + HALF, mask=before[None, :], other=0.0)
        v = tl.load(values_ptr + cache + at[:, None] * WIDTH + column[None, :], mask=before[:, None], other=0.0)
        scores = tl.dot(q1, old1, input_precision="ieee")
        scores = tl.dot(q2, old2, scores, input_precision="ieee") * factor
        scores = tl.where(before[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        weights = tl.exp2(scores - higher[:, None])
        shrunk = tl.exp2(top - higher)
        total = total * shrunk + tl.sum(weights, axis=1)
        sums = tl.dot(weights.to(dtype), v, sums * shrunk[:, None], input_precision="ieee")
        top = higher

    out = out_ptr + sequence * (HEADS * GROUP * WIDTH) + (head * GROUP + query)[:, None] * WIDTH + column[None, :]
    tl.store(out, (sums / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
