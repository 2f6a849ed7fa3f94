"""How does one new token of each sequence attend to a static cache, from its projections on, in one launch?

A program serves one head of keys and values, and the heads of queries that share it. It norms and rotates their
queries and the new key, stores key and value in the cache, and then goes through the cache before the new token. The
new token itself is where the running softmax starts, so nothing is read back that was just written.

A model has few such heads and a GPU many multiprocessors: several programs may share a head, tile by tile in turns. The
one that finishes last puts their sums together. Each counts itself after its sums are stored, so that the last one can
read all others, and sets the counter back for the next launch.
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
def _row_length(WIDTH: tl.constexpr):
    """Give the numbers that a program leaves of a head of queries: sums and two more, a multiple of 16 bytes."""
    return WIDTH + 4


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
    partial_ptr,
    arrived_ptr,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    PADDED: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Serve one of ``HEADS`` heads of keys and values, ``GROUP`` heads of queries, of one sequence.

    ``SPLITS`` programs share it; each leaves rows of ``WIDTH`` sums, the largest score and the sum of weights.
    """
    HALF: tl.constexpr = WIDTH // 2
    program = tl.program_id(0).to(tl.int64) // SPLITS
    split = tl.program_id(0).to(tl.int64) % SPLITS
    sequence, head = program // HEADS, program % HEADS
    dtype: tl.constexpr = keys_ptr.dtype.element_ty
    half = tl.arange(0, HALF)
    column = tl.arange(0, WIDTH)
    position = tl.load(position_ptr)
    last = tl.minimum(position, length)
    # Programs without a tile of their own have nothing to do, but for the first.
    used = tl.maximum(tl.minimum(tl.cdiv(last, BLOCK), SPLITS), 1)
    if SPLITS > 1:  # noqa: SIM102 - decided when it is compiled
        if split >= used:
            return
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
    fits = fits & (split == 0)
    tl.store(place, k1, mask=fits[None, :])
    tl.store(place + HALF, k2, mask=fits[None, :])
    fits = tl.full([WIDTH], 1, tl.int1) & (position < length) & (split == 0)
    tl.store(values_ptr + cache + position * WIDTH + column, value, mask=fits)

    # Scores are in units of log 2.
    factor = scale * _LOG2_E
    score = tl.sum(q1.to(tl.float32) * k1.to(tl.float32), axis=1) + tl.sum(
        q2.to(tl.float32) * k2.to(tl.float32), axis=1
    )
    # The new token is the first program's.
    top = tl.where(split == 0, score * factor, float("-inf"))
    total = tl.where(split == 0, tl.full([PADDED], 1.0, tl.float32), 0.0)
    sums = tl.where(split == 0, tl.broadcast_to(value.to(tl.float32)[None, :], [PADDED, WIDTH]), 0.0)
    for start in range(split * BLOCK, last, SPLITS * BLOCK):
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
    if SPLITS == 1:
        tl.store(out, (sums / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
    else:
        own = query < GROUP
        rows = partial_ptr + program * (SPLITS * GROUP * _row_length(WIDTH)) + query * _row_length(WIDTH)
        mine = rows + split * (GROUP * _row_length(WIDTH))
        tl.store(mine[:, None] + column[None, :], sums, mask=inside)
        tl.store(mine + WIDTH, top, mask=own)
        tl.store(mine + WIDTH + 1, total, mask=own)
        # All threads of the program have stored before one of them counts it: on NVIDIA GPUs a barrier orders that.
        tl.debug_barrier()
        if tl.atomic_add(arrived_ptr + program, 1, sem="acq_rel") == used - 1:
            top = tl.full([PADDED], float("-inf"), tl.float32)
            total = tl.zeros([PADDED], tl.float32)
            sums = tl.zeros([PADDED, WIDTH], tl.float32)
            for other in range(used):
                theirs = rows + other * (GROUP * _row_length(WIDTH))
                # Other multiprocessors wrote these: not out of this one's own cache.
                their_top = tl.load(theirs + WIDTH, mask=own, other=0.0, cache_modifier=".cg")
                their_total = tl.load(theirs + WIDTH + 1, mask=own, other=1.0, cache_modifier=".cg")
                their_sums = tl.load(theirs[:, None] + column[None, :], mask=inside, other=0.0, cache_modifier=".cg")
                higher = tl.maximum(top, their_top)
                shrunk, share = tl.exp2(top - higher), tl.exp2(their_top - higher)
                total = total * shrunk + their_total * share
                sums = sums * shrunk[:, None] + their_sums * share[:, None]
                top = higher
            tl.store(out, (sums / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
            tl.store(arrived_ptr + program, 0)
