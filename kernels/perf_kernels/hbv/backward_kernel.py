"""How does one more launch give the gradients of all days?

It runs from the last chunk of days to the first. It reads the soil moisture of every day and the other four storages of
every chunk, recomputes the chunk, and takes the gradients of the five storages back through it. With the soil moisture
known, the powers of a chunk's days do not wait for each other.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.hbv.day import day_backward, device_function, one_day
from perf_kernels.hbv.loads import load_chunk, load_parameters, load_states

_LN2 = tl.constexpr(0.6931471805599453)


@device_function
def _load_saved(soil_ptr, checkpoint_ptr, q_gradient_ptr, row, checkpoint, basins, stride, DAYS: tl.constexpr):
    """Load of the ``DAYS`` days from ``row`` on: S, M, SUZ and SLZ of the first; each day's SM and dQ."""
    at = checkpoint_ptr + checkpoint * 4 * basins
    saved = (tl.load(at), tl.load(at + basins), tl.load(at + 2 * basins), tl.load(at + 3 * basins))
    for j in tl.static_range(DAYS):
        saved = saved + (tl.load(soil_ptr + (row + j) * basins), tl.load(q_gradient_ptr + (row + j) * stride))
    return saved


@device_function
def _chunk_backward(
    forcings,
    saved,
    parameters,
    g_states,
    sums,
    p_gradient_ptr,
    t_gradient_ptr,
    pet_gradient_ptr,
    row,
    basins,
    inside,
    SMOOTH: tl.constexpr,
    PTX: tl.constexpr,
    DAYS: tl.constexpr,
):
    """Recompute ``DAYS`` days from ``row`` on and take the gradients from their end to their start."""
    s, m, suz, slz = saved[:4]
    slz_of_days = ()
    needed = ()
    for j in tl.static_range(DAYS):
        slz_of_days = slz_of_days + (slz,)
        _, s, m, _, suz, slz, of_day = one_day(
            forcings[3 * j],
            forcings[3 * j + 1],
            forcings[3 * j + 2],
            s,
            m,
            saved[4 + 2 * j],
            suz,
            slz,
            parameters,
            SMOOTH,
            PTX,
        )
        needed = needed + (of_day,)
    for j in tl.static_range(DAYS - 1, -1, -1):
        g_states, sums, g_p, g_t, g_pet = day_backward(
            forcings[3 * j],
            forcings[3 * j + 1],
            forcings[3 * j + 2],
            saved[4 + 2 * j],
            slz_of_days[j],
            needed[j],
            parameters,
            saved[5 + 2 * j],
            g_states,
            sums,
            SMOOTH,
            PTX,
        )
        if p_gradient_ptr is not None:
            offset = (row + j) * basins
            tl.store(p_gradient_ptr + offset, g_p, mask=inside)
            tl.store(t_gradient_ptr + offset, g_t, mask=inside)
            tl.store(pet_gradient_ptr + offset, g_pet, mask=inside)
    return g_states, sums


@device_function
def _store_parameter_gradients(to_ptr, parameters_ptr, sums, basins, inside):
    """Turn gradients of CFR CFMAX, 1 / FC and 1 / (LP FC) into those of the parameters, and store all 14."""
    sum_tt, sum_cfmax, sum_cfrmax, sum_cwh, sum_fc, sum_per_fc, sum_beta, sum_per_lpfc = sums[:8]
    sum_betaet, sum_c, sum_perc, sum_k0, sum_k1, sum_k2, sum_uzl = sums[8:]
    cfmax = tl.load(parameters_ptr + basins)
    cfr = tl.load(parameters_ptr + 2 * basins)
    fc = tl.load(parameters_ptr + 4 * basins)
    lp = tl.load(parameters_ptr + 6 * basins)
    g_lpfc = -sum_per_lpfc / (lp * fc) / (lp * fc)
    tl.store(to_ptr, sum_tt, mask=inside)
    tl.store(to_ptr + basins, sum_cfmax + sum_cfrmax * cfr, mask=inside)
    tl.store(to_ptr + 2 * basins, sum_cfrmax * cfmax, mask=inside)
    tl.store(to_ptr + 3 * basins, sum_cwh, mask=inside)
    tl.store(to_ptr + 4 * basins, sum_fc - sum_per_fc / fc / fc + g_lpfc * lp, mask=inside)
    # The sum of g w ln(x) is that of g w log2(x), times ln 2.
    tl.store(to_ptr + 5 * basins, sum_beta * _LN2, mask=inside)
    tl.store(to_ptr + 6 * basins, g_lpfc * fc, mask=inside)
    tl.store(to_ptr + 7 * basins, sum_betaet * _LN2, mask=inside)
    tl.store(to_ptr + 8 * basins, sum_c, mask=inside)
    tl.store(to_ptr + 9 * basins, sum_perc, mask=inside)
    tl.store(to_ptr + 10 * basins, sum_k0, mask=inside)
    tl.store(to_ptr + 11 * basins, sum_k1, mask=inside)
    tl.store(to_ptr + 12 * basins, sum_k2, mask=inside)
    tl.store(to_ptr + 13 * basins, sum_uzl, mask=inside)


@triton.jit(do_not_specialize=["days", "basins", "q_gradient_row_stride", "q_gradient_column_stride"])
def _backward_kernel(
    p_ptr,
    t_ptr,
    pet_ptr,
    parameters_ptr,
    soil_ptr,
    checkpoint_ptr,
    q_gradient_ptr,
    final_gradient_ptr,
    parameters_gradient_ptr,
    initial_gradient_ptr,
    p_gradient_ptr,
    t_gradient_ptr,
    pet_gradient_ptr,
    days,
    basins,
    q_gradient_row_stride,
    q_gradient_column_stride,
    SMOOTH: tl.constexpr,
    PTX: tl.constexpr,
    DAYS: tl.constexpr,
    AHEAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Give the gradients of BLOCK basins, from the last day to the first.

    The gradient of the discharge may have any strides (that of a sum has 0 and 0).
    """
    # Whatever is multiplied with it is 64 bits wide: days x basins passes 2**31.
    basins = basins.to(tl.int64)
    stride = tl.cast(q_gradient_row_stride, tl.int64)
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = column < basins
    column = tl.minimum(column, basins - 1)
    parameters = load_parameters(parameters_ptr, column, basins)
    p_ptr += column
    t_ptr += column
    pet_ptr += column
    soil_ptr += column
    checkpoint_ptr += column
    q_gradient_ptr += column * q_gradient_column_stride
    if p_gradient_ptr is not None:
        p_gradient_ptr += column
        t_gradient_ptr += column
        pet_gradient_ptr += column

    zero = tl.zeros([BLOCK], tl.float32)
    if final_gradient_ptr is not None:
        g_states = load_states(final_gradient_ptr, column, basins)
    else:
        g_states = (zero, zero, zero, zero, zero)
    sums = (zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero)

    chunks = days // DAYS
    for back in range(days - chunks * DAYS):
        row = days - 1 - back
        # A checkpoint for each of these days follows those of the chunks.
        checkpoint = row - chunks * (DAYS - 1)
        forcings = load_chunk(p_ptr, t_ptr, pet_ptr, row, basins, 1)
        saved = _load_saved(soil_ptr, checkpoint_ptr, q_gradient_ptr, row, checkpoint, basins, stride, 1)
        g_states, sums = _chunk_backward(
            forcings,
            saved,
            parameters,
            g_states,
            sums,
            p_gradient_ptr,
            t_gradient_ptr,
            pet_gradient_ptr,
            row,
            basins,
            inside,
            SMOOTH,
            PTX,
            1,
        )

    ahead = ()
    ahead_saved = ()
    for i in tl.static_range(AHEAD):
        chunk = tl.maximum(chunks - 1 - i, 0)
        ahead = ahead + load_chunk(p_ptr, t_ptr, pet_ptr, chunk * DAYS, basins, DAYS)
        ahead_saved = ahead_saved + _load_saved(
            soil_ptr, checkpoint_ptr, q_gradient_ptr, chunk * DAYS, chunk, basins, stride, DAYS
        )
    for back in range(chunks):
        row = (chunks - 1 - back) * DAYS
        forcings = ahead[: 3 * DAYS]
        saved = ahead_saved[: 4 + 2 * DAYS]
        # Past the start the first chunk is loaded once more.
        chunk = tl.maximum(chunks - 1 - back - AHEAD, 0)
        ahead = ahead[3 * DAYS :] + load_chunk(p_ptr, t_ptr, pet_ptr, chunk * DAYS, basins, DAYS)
        ahead_saved = ahead_saved[4 + 2 * DAYS :] + _load_saved(
            soil_ptr, checkpoint_ptr, q_gradient_ptr, chunk * DAYS, chunk, basins, stride, DAYS
        )
        g_states, sums = _chunk_backward(
            forcings,
            saved,
            parameters,
            g_states,
            sums,
            p_gradient_ptr,
            t_gradient_ptr,
            pet_gradient_ptr,
            row,
            basins,
            inside,
            SMOOTH,
            PTX,
            DAYS,
        )

    _store_parameter_gradients(parameters_gradient_ptr + column, parameters_ptr + column, sums, basins, inside)
    g_s, g_m, g_sm, g_suz, g_slz = g_states
    at = initial_gradient_ptr + column
    tl.store(at, g_s, mask=inside)
    tl.store(at + basins, g_m, mask=inside)
    tl.store(at + 2 * basins, g_sm, mask=inside)
    tl.store(at + 3 * basins, g_suz, mask=inside)
    tl.store(at + 4 * basins, g_slz, mask=inside)
