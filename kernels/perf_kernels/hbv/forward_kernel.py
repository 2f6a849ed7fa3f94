"""How does one launch run HBV over all days?

A thread holds a basin: its storages and parameters stay in registers for the whole series, and the forcings of a chunk
of days are loaded while earlier chunks are computed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.hbv.day import one_day
from perf_kernels.hbv.loads import load_chunk, load_parameters, load_states


@triton.jit(do_not_specialize=["days", "basins"])
def _forward_kernel(
    p_ptr,
    t_ptr,
    pet_ptr,
    parameters_ptr,
    initial_ptr,
    q_ptr,
    final_ptr,
    soil_ptr,
    checkpoint_ptr,
    days,
    basins,
    SMOOTH: tl.constexpr,
    PTX: tl.constexpr,
    DAYS: tl.constexpr,
    AHEAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Run all days of BLOCK basins. With ``soil_ptr``, keep what the backward pass needs.

    ``soil``: [T, B], soil moisture at the start of each day. ``checkpoint``: [checkpoints, 4, B], the other storages at
    the start of each chunk, then of each day after the last whole chunk.
    """
    # Whatever is multiplied with it is 64 bits wide: days x basins passes 2**31.
    basins = basins.to(tl.int64)
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = column < basins
    # Threads past the last basin compute that one too: nothing has to be masked but the stores.
    column = tl.minimum(column, basins - 1)
    parameters = load_parameters(parameters_ptr, column, basins)
    s, m, sm, suz, slz = load_states(initial_ptr, column, basins)
    p_ptr += column
    t_ptr += column
    pet_ptr += column
    q_ptr += column
    if soil_ptr is not None:
        soil_ptr += column
        checkpoint_ptr += column

    chunks = days // DAYS
    ahead = ()
    for i in tl.static_range(AHEAD):
        row = tl.minimum(i, chunks - 1) * DAYS
        ahead = ahead + load_chunk(p_ptr, t_ptr, pet_ptr, row, basins, DAYS)
    for chunk in range(chunks):
        row = chunk * DAYS
        now = ahead[: 3 * DAYS]
        # Past the end the last chunk is loaded once more.
        later = tl.minimum(chunk + AHEAD, chunks - 1) * DAYS
        ahead = ahead[3 * DAYS :] + load_chunk(p_ptr, t_ptr, pet_ptr, later, basins, DAYS)
        if soil_ptr is not None:
            at = checkpoint_ptr + chunk * 4 * basins
            tl.store(at, s, mask=inside)
            tl.store(at + basins, m, mask=inside)
            tl.store(at + 2 * basins, suz, mask=inside)
            tl.store(at + 3 * basins, slz, mask=inside)
        for j in tl.static_range(DAYS):
            offset = (row + j) * basins
            if soil_ptr is not None:
                tl.store(soil_ptr + offset, sm, mask=inside)
            q, s, m, sm, suz, slz, _ = one_day(
                now[3 * j], now[3 * j + 1], now[3 * j + 2], s, m, sm, suz, slz, parameters, SMOOTH, PTX
            )
            tl.store(q_ptr + offset, q, mask=inside)

    for day in range(chunks * DAYS, days):
        offset = day * basins
        if soil_ptr is not None:
            tl.store(soil_ptr + offset, sm, mask=inside)
            at = checkpoint_ptr + (day - chunks * (DAYS - 1)) * 4 * basins
            tl.store(at, s, mask=inside)
            tl.store(at + basins, m, mask=inside)
            tl.store(at + 2 * basins, suz, mask=inside)
            tl.store(at + 3 * basins, slz, mask=inside)
        p, t, pet = tl.load(p_ptr + offset), tl.load(t_ptr + offset), tl.load(pet_ptr + offset)
        q, s, m, sm, suz, slz, _ = one_day(p, t, pet, s, m, sm, suz, slz, parameters, SMOOTH, PTX)
        tl.store(q_ptr + offset, q, mask=inside)

    final_ptr += column
    tl.store(final_ptr, s, mask=inside)
    tl.store(final_ptr + basins, m, mask=inside)
    tl.store(final_ptr + 2 * basins, sm, mask=inside)
    tl.store(final_ptr + 3 * basins, suz, mask=inside)
    tl.store(final_ptr + 4 * basins, slz, mask=inside)
