"""How is causal linear attention computed chunk by chunk on tensor cores?

``S_t = S_{t-1} + k_t v_t^T`` and ``o_t = scale q_t^T S_t``; the normalised form divides by
``scale q_t . (k_1 + ... + k_t) + 1e-10``. For a chunk that starts from the state S,

    O = scale (Q S + tril(Q K^T) V)    and then    S += K^T V,

four products of matrices. Nothing decays, so the state at the start of a segment is the sum of the segments before it,
and segments can be walked at the same time: ``_segment_sums_kernel`` sums up each, ``_prefix_sums_kernel`` adds up what
lies before each, ``_outputs_kernel`` walks. With one segment only the last of the three runs.

States, sums and scores are fp32. Factors of a product are rounded to the type of the inputs; fp32 is multiplied in TF32
where the hardware has it. Results do not depend on the order in which programs run.

Offsets of rows are 64 bits wide: ``batch * stride`` passes 2**31 for 17,477 tokens of 32 heads x 128 at a batch of 30.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.linear_attention.reference import EPSILON

_EPSILON = tl.constexpr(EPSILON)


@triton.jit
def _load(tile, row, rows_left, column, width, MASK_ROWS: tl.constexpr, MASK_COLUMNS: tl.constexpr):
    """Load ``tile`` [rows, columns]; 0 past ``rows_left`` and ``width`` where that is masked."""
    if MASK_ROWS and MASK_COLUMNS:
        return tl.load(tile, mask=(row[:, None] < rows_left) & (column[None, :] < width), other=0.0)
    elif MASK_ROWS:
        return tl.load(tile, mask=row[:, None] < rows_left, other=0.0)
    elif MASK_COLUMNS:
        return tl.load(tile, mask=column[None, :] < width, other=0.0)
    else:
        return tl.load(tile)


@triton.jit
def _segment_sums_kernel(
    k_ptr,
    v_ptr,
    states_ptr,
    key_sums_ptr,
    heads,
    segments,
    segment_chunks,
    k_batch_stride,
    k_time_stride,
    k_head_stride,
    v_batch_stride,
    v_time_stride,
    v_head_stride,
    K: tl.constexpr,
    V: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
    CHUNK: tl.constexpr,
    NORMALIZE: tl.constexpr,
):
    """Sum ``k v^T`` (and k) over one segment, one block of values and one head a program, into the next one's slot.

    The last segment is left out: nothing starts from its sum. All others consist of whole chunks.
    """
    value_blocks: tl.constexpr = (V + BLOCK_V - 1) // BLOCK_V
    program = tl.program_id(0).to(tl.int64)
    value_block = program % value_blocks
    head = program // value_blocks % heads
    segment = program // (value_blocks * heads) % (segments - 1)
    batch = program // (value_blocks * heads) // (segments - 1)

    token = tl.arange(0, CHUNK)
    key = tl.arange(0, BLOCK_K)
    value = value_block * BLOCK_V + tl.arange(0, BLOCK_V)
    step = tl.full((), CHUNK, tl.int64)
    first = token.to(tl.int64) + segment * segment_chunks * step
    k_tile = k_ptr + batch * k_batch_stride + head * k_head_stride + first[:, None] * k_time_stride + key[None, :]
    v_tile = v_ptr + batch * v_batch_stride + head * v_head_stride + first[:, None] * v_time_stride + value[None, :]

    state = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    key_sum = tl.zeros([BLOCK_K], tl.float32)
    for _ in range(segment_chunks):
        k = _load(k_tile, token, CHUNK, key, K, False, K != BLOCK_K)
        v = _load(v_tile, token, CHUNK, value, V, False, V % BLOCK_V != 0)
        state = tl.dot(tl.trans(k), v, state)
        if NORMALIZE:
            key_sum += tl.sum(k.to(tl.float32), axis=0)
        k_tile += step * k_time_stride
        v_tile += step * v_time_stride

    slot = (batch * segments + segment + 1) * heads + head
    inside = (key[:, None] < K) & (value[None, :] < V)
    tl.store(states_ptr + slot * (K * V) + key[:, None] * V + value[None, :], state, mask=inside)
    if NORMALIZE:
        # Every block of values stores the same.
        tl.store(key_sums_ptr + slot * K + key, key_sum, mask=key < K)


@triton.jit
def _prefix_sums_kernel(
    sums_ptr,
    initial_ptr,
    segments,
    width,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
):
    """Replace ``sums`` [batch, segments, width] by running sums in place; slot 0 becomes ``initial`` [batch, width]."""
    program = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(width, BLOCK)
    batch = program // blocks
    column = program % blocks * BLOCK + tl.arange(0, BLOCK)
    at = sums_ptr + batch * segments * width + column
    if HAS_INITIAL:
        total = tl.load(initial_ptr + batch * width + column, mask=column < width, other=0.0)
    else:
        total = tl.zeros([BLOCK], tl.float32)
    # Every load is issued before the first store.
    sums = ()
    for slot in tl.static_range(1, SLOTS):
        used = column < tl.where(slot < segments, width, 0)
        sums = sums + (tl.load(at + slot * width, mask=used, other=0.0),)
    tl.store(at, total, mask=column < width)
    for slot in tl.static_range(1, SLOTS):
        total += sums[slot - 1]
        tl.store(at + slot * width, total, mask=column < tl.where(slot < segments, width, 0))


@triton.jit
def _outputs_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    states_ptr,
    key_sums_ptr,
    final_ptr,
    final_keys_ptr,
    divisor_ptr,
    scale,
    tokens,
    heads,
    segments,
    segment_chunks,
    q_batch_stride,
    q_time_stride,
    q_head_stride,
    k_batch_stride,
    k_time_stride,
    k_head_stride,
    v_batch_stride,
    v_time_stride,
    v_head_stride,
    o_batch_stride,
    o_time_stride,
    o_head_stride,
    K: tl.constexpr,
    V: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
    CHUNK: tl.constexpr,
    RAGGED: tl.constexpr,
    HAS_STATE: tl.constexpr,
    STORE_FINAL: tl.constexpr,
    NORMALIZE: tl.constexpr,
):
    """Walk over one segment of one head, chunk by chunk, for one block of values a program.

    ``states`` [batch, segments, heads, K, V] and ``key_sums`` [batch, segments, heads, K] are where segments start, and
    ``final`` and ``final_keys``, without the segments, where the last one ends. ``divisor`` is [batch, tokens, heads].
    A time stride below 0 walks backwards: pointers are then those of the last token.
    """
    value_blocks: tl.constexpr = (V + BLOCK_V - 1) // BLOCK_V
    program = tl.program_id(0).to(tl.int64)
    value_block = program % value_blocks
    head = program // value_blocks % heads
    segment = program // (value_blocks * heads) % segments
    batch = program // (value_blocks * heads) // segments

    token = tl.arange(0, CHUNK)
    key = tl.arange(0, BLOCK_K)
    value = value_block * BLOCK_V + tl.arange(0, BLOCK_V)
    step = tl.full((), CHUNK, tl.int64)
    start = segment * segment_chunks * step
    first = token.to(tl.int64) + start
    q_tile = q_ptr + batch * q_batch_stride + head * q_head_stride + first[:, None] * q_time_stride + key[None, :]
    k_tile = k_ptr + batch * k_batch_stride + head * k_head_stride + first[:, None] * k_time_stride + key[None, :]
    v_tile = v_ptr + batch * v_batch_stride + head * v_head_stride + first[:, None] * v_time_stride + value[None, :]
    o_tile = o_ptr + batch * o_batch_stride + head * o_head_stride + first[:, None] * o_time_stride + value[None, :]

    slot = (batch * segments + segment) * heads + head
    inside = (key[:, None] < K) & (value[None, :] < V)
    state = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    key_sum = tl.zeros([BLOCK_K], tl.float32)
    if HAS_STATE:
        state = tl.load(states_ptr + slot * (K * V) + key[:, None] * V + value[None, :], mask=inside, other=0.0)
        if NORMALIZE:
            key_sum = tl.load(key_sums_ptr + slot * K + key, mask=key < K, other=0.0)

    rows_left = (tokens - start).to(tl.int32)
    chunks = tl.minimum(segment_chunks, tl.cdiv(rows_left, CHUNK))
    for _ in range(chunks):
        q = _load(q_tile, token, rows_left, key, K, RAGGED, K != BLOCK_K)
        k = _load(k_tile, token, rows_left, key, K, RAGGED, K != BLOCK_K)
        v = _load(v_tile, token, rows_left, value, V, RAGGED, V % BLOCK_V != 0)
        scores = tl.dot(q, tl.trans(k), tl.zeros([CHUNK, CHUNK], tl.float32))
        scores = tl.where(token[:, None] >= token[None, :], scores, 0.0)
        o = tl.dot(q, state.to(q.dtype), tl.zeros([CHUNK, BLOCK_V], tl.float32))
        o = tl.dot(scores.to(v.dtype), v, o) * scale
        if NORMALIZE:
            # Not a product with 16 copies of the sum: on sm90 that gave wrong results with Triton 3.6.0.
            before = tl.sum(q.to(tl.float32) * key_sum[None, :], axis=1)
            divisor = (before + tl.sum(scores, axis=1)) * scale + _EPSILON
            o = o / divisor[:, None]
            key_sum += tl.sum(k.to(tl.float32), axis=0)
            # Positions count from where the walk starts.
            if value_block == 0:
                tl.store(divisor_ptr + (batch * tokens + first) * heads + head, divisor, mask=token < rows_left)
        state = tl.dot(tl.trans(k), v, state)
        if RAGGED:
            tl.store(o_tile, o.to(o_ptr.dtype.element_ty), mask=(token[:, None] < rows_left) & (value[None, :] < V))
        elif V % BLOCK_V != 0:
            tl.store(o_tile, o.to(o_ptr.dtype.element_ty), mask=value[None, :] < V)
        else:
            tl.store(o_tile, o.to(o_ptr.dtype.element_ty))
        q_tile += step * q_time_stride
        k_tile += step * k_time_stride
        v_tile += step * v_time_stride
        o_tile += step * o_time_stride
        first += step
        rows_left -= CHUNK

    if STORE_FINAL:  # noqa: SIM102 - a constant, and a condition at run time
        if segment == segments - 1:
            slot = batch * heads + head
            tl.store(final_ptr + slot * (K * V) + key[:, None] * V + value[None, :], state, mask=inside)
            if NORMALIZE:
                tl.store(final_keys_ptr + slot * K + key, key_sum, mask=key < K)
