"""How does one launch run HBV over all days, and one more give its gradients?

A thread holds a basin: its storages and parameters stay in registers for the whole series, and the forcings of a chunk
of days are loaded while earlier chunks are computed.

The backward pass runs from the last chunk to the first. It reads the soil moisture of every day and the other four
storages of every chunk, recomputes the chunk, and takes the gradients of the five storages back through it. With the
soil moisture known, the powers of a chunk's days do not wait for each other.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import torch
import triton
import triton.language as tl

from perf_kernels.hbv.day import day_backward, device_function, one_day
from perf_kernels.hbv.launch import LaunchConfig, checkpoints, launch_config, shape_class
from perf_kernels.hbv.reference import INITIAL_STATE, STATES
from perf_kernels.target import current_target
from perf_kernels.tuned import Chooser

_INITIAL = tl.constexpr(INITIAL_STATE)
_LN2 = tl.constexpr(0.6931471805599453)


@device_function
def _load_parameters(parameters_ptr, column, basins):
    """Load the 14 parameters; replace CFR by CFR CFMAX, add 1 / FC and 1 / (LP FC)."""
    at = parameters_ptr + column
    tt = tl.load(at)
    cfmax = tl.load(at + basins)
    cfr = tl.load(at + 2 * basins)
    cwh = tl.load(at + 3 * basins)
    fc = tl.load(at + 4 * basins)
    beta = tl.load(at + 5 * basins)
    lp = tl.load(at + 6 * basins)
    betaet = tl.load(at + 7 * basins)
    c = tl.load(at + 8 * basins)
    perc = tl.load(at + 9 * basins)
    k0 = tl.load(at + 10 * basins)
    k1 = tl.load(at + 11 * basins)
    k2 = tl.load(at + 12 * basins)
    uzl = tl.load(at + 13 * basins)
    lpfc = lp * fc
    return (tt, cfmax, cfr * cfmax, cwh, fc, 1.0 / fc, beta, lpfc, 1.0 / lpfc, betaet, c, perc, k0, k1, k2, uzl)


@device_function
def _load_states(states_ptr, column, basins):
    """Load the five storages; without a tensor to load them from, give their default."""
    if states_ptr is None:
        s = tl.zeros_like(column).to(tl.float32) + _INITIAL
        return (s, s, s, s, s)
    else:
        at = states_ptr + column
        s = tl.load(at)
        m = tl.load(at + basins)
        sm = tl.load(at + 2 * basins)
        suz = tl.load(at + 3 * basins)
        slz = tl.load(at + 4 * basins)
        return (s, m, sm, suz, slz)


@device_function
def _load_chunk(p_ptr, t_ptr, pet_ptr, row, basins, DAYS: tl.constexpr):
    """Load the forcings of ``DAYS`` days from ``row`` on: a tuple of 3 * DAYS tensors [BLOCK]."""
    chunk = ()
    for j in tl.static_range(DAYS):
        offset = (row + j) * basins
        chunk = chunk + (tl.load(p_ptr + offset), tl.load(t_ptr + offset), tl.load(pet_ptr + offset))  # noqa: RUF005
    return chunk


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
    parameters = _load_parameters(parameters_ptr, column, basins)
    s, m, sm, suz, slz = _load_states(initial_ptr, column, basins)
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
        ahead = ahead + _load_chunk(p_ptr, t_ptr, pet_ptr, row, basins, DAYS)
    for chunk in range(chunks):
        row = chunk * DAYS
        now = ahead[: 3 * DAYS]
        # Past the end the last chunk is loaded once more.
        later = tl.minimum(chunk + AHEAD, chunks - 1) * DAYS
        ahead = ahead[3 * DAYS :] + _load_chunk(p_ptr, t_ptr, pet_ptr, later, basins, DAYS)
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


@device_function
def _load_saved(soil_ptr, checkpoint_ptr, q_gradient_ptr, row, checkpoint, basins, stride, DAYS: tl.constexpr):
    """Load of the ``DAYS`` days from ``row`` on: S, M, SUZ and SLZ of the first; each day's SM and dQ."""
    at = checkpoint_ptr + checkpoint * 4 * basins
    saved = (tl.load(at), tl.load(at + basins), tl.load(at + 2 * basins), tl.load(at + 3 * basins))
    for j in tl.static_range(DAYS):
        saved = saved + (tl.load(soil_ptr + (row + j) * basins), tl.load(q_gradient_ptr + (row + j) * stride))  # noqa: RUF005
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
        slz_of_days = slz_of_days + (slz,)  # noqa: RUF005
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
        needed = needed + (of_day,)  # noqa: RUF005
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
    parameters = _load_parameters(parameters_ptr, column, basins)
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
        g_states = _load_states(final_gradient_ptr, column, basins)
    else:
        g_states = (zero, zero, zero, zero, zero)
    sums = (zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero)

    chunks = days // DAYS
    for back in range(days - chunks * DAYS):
        row = days - 1 - back
        # A checkpoint for each of these days follows those of the chunks.
        checkpoint = row - chunks * (DAYS - 1)
        forcings = _load_chunk(p_ptr, t_ptr, pet_ptr, row, basins, 1)
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
        ahead = ahead + _load_chunk(p_ptr, t_ptr, pet_ptr, chunk * DAYS, basins, DAYS)
        ahead_saved = ahead_saved + _load_saved(
            soil_ptr, checkpoint_ptr, q_gradient_ptr, chunk * DAYS, chunk, basins, stride, DAYS
        )
    for back in range(chunks):
        row = (chunks - 1 - back) * DAYS
        forcings = ahead[: 3 * DAYS]
        saved = ahead_saved[: 4 + 2 * DAYS]
        # Past the start the first chunk is loaded once more.
        chunk = tl.maximum(chunks - 1 - back - AHEAD, 0)
        ahead = ahead[3 * DAYS :] + _load_chunk(p_ptr, t_ptr, pet_ptr, chunk * DAYS, basins, DAYS)
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


def launch_forward(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    initial: torch.Tensor | None,
    *,
    smooth: bool,
    save: bool,
    config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run all days; arguments as :func:`hbv` checks them, contiguous.

    Returns:
        Discharge [T, B], storages [5, B]; and, with ``save``, what :func:`launch_backward` needs (else empty tensors):
        soil moisture at the start of each day [T, B], the other storages at checkpoints [N, 4, B].
    """
    days, basins = precipitation.shape
    config = config or _config(precipitation, smooth=smooth, training=save)
    q, final, soil, checkpoint = forward_outputs(precipitation, parameters, save=save, config=config)
    if days == 0:
        return q, final.fill_(INITIAL_STATE) if initial is None else final.copy_(initial), soil, checkpoint
    if basins > 0:
        with _device_of(precipitation):
            _forward_kernel[(triton.cdiv(basins, config.block),)](
                precipitation,
                temperature,
                pet,
                parameters,
                initial,
                q,
                final,
                soil if save else None,
                checkpoint if save else None,
                days,
                basins,
                SMOOTH=smooth,
                PTX=current_target().backend == "cuda",
                DAYS=min(config.days, days),
                AHEAD=config.ahead,
                BLOCK=config.block,
                num_warps=config.num_warps,
                num_stages=1,
                enable_fp_fusion=True,
            )
    return q, final, soil, checkpoint


def launch_backward(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    soil: torch.Tensor,
    checkpoint: torch.Tensor,
    q_gradient: torch.Tensor,
    final_gradient: torch.Tensor | None,
    *,
    smooth: bool,
    forcings: bool,
    config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give the gradients of what :func:`launch_forward` ran, with the same ``config``.

    Args:
        precipitation: as it was given.
        temperature: as it was given.
        pet: as it was given.
        parameters: as they were given.
        soil: as it was returned.
        checkpoint: as it was returned.
        q_gradient: [T, B], any strides.
        final_gradient: [5, B], or None for zeros.
        smooth: as it was given.
        forcings: whether their gradients are wanted.
        config: as it was given.

    Returns:
        Gradients of the parameters [14, B], of the initial storages [5, B], and of precipitation, temperature and
        potential evapotranspiration [T, B] (empty tensors unless ``forcings``).
    """
    days, basins = precipitation.shape
    config = config or _config(precipitation, smooth=smooth, backward=True)
    of_parameters, of_initial, *of_forcings = backward_outputs(precipitation, parameters, forcings=forcings)
    if days == 0:
        of_initial = of_initial.zero_() if final_gradient is None else of_initial.copy_(final_gradient)
        return of_parameters.zero_(), of_initial, *of_forcings
    if basins > 0:
        row_stride, column_stride = q_gradient.stride()
        with _device_of(precipitation):
            _backward_kernel[(triton.cdiv(basins, config.block),)](
                precipitation,
                temperature,
                pet,
                parameters,
                soil,
                checkpoint,
                q_gradient,
                final_gradient if final_gradient is None else final_gradient.contiguous(),
                of_parameters,
                of_initial,
                *(of_forcings if forcings else (None, None, None)),
                days,
                basins,
                row_stride,
                column_stride,
                SMOOTH=smooth,
                PTX=current_target().backend == "cuda",
                DAYS=min(config.days, days),
                AHEAD=config.ahead,
                BLOCK=config.block,
                num_warps=config.num_warps,
                num_stages=1,
                enable_fp_fusion=True,
            )
    return of_parameters, of_initial, *of_forcings


def forward_outputs(
    precipitation: torch.Tensor, parameters: torch.Tensor, *, save: bool, config: LaunchConfig | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Allocate what :func:`launch_forward` returns."""
    days, basins = precipitation.shape
    spacing = min((config or _config(precipitation, training=True)).days, max(days, 1))
    return (
        torch.empty_like(precipitation),
        parameters.new_empty((len(STATES), basins)),
        parameters.new_empty((days, basins) if save else (0,)),
        parameters.new_empty((checkpoints(days, spacing), len(STATES) - 1, basins) if save else (0,)),
    )


def backward_outputs(
    precipitation: torch.Tensor, parameters: torch.Tensor, *, forcings: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Allocate what :func:`launch_backward` returns."""
    days, basins = precipitation.shape
    shape = (days, basins) if forcings else (0,)
    return (
        torch.empty_like(parameters),
        parameters.new_empty((len(STATES), basins)),
        parameters.new_empty(shape),
        parameters.new_empty(shape),
        parameters.new_empty(shape),
    )


def _fallback(basins: int, days: int, smooth: bool, training: bool, backward: bool) -> LaunchConfig:
    return launch_config(basins, days, current_target().lanes, smooth=smooth, training=training, backward=backward)


choose = Chooser("hbv", _fallback, shape_class)


def _config(
    precipitation: torch.Tensor, *, smooth: bool = False, training: bool = True, backward: bool = False
) -> LaunchConfig:
    days, basins = precipitation.shape
    shape = (basins, days, smooth, training or backward, backward)
    config = choose(*shape)
    # Whatever was tuned, both passes have to agree on the days between two checkpoints.
    return replace(config, days=_fallback(*shape).days) if training or backward else config


def _device_of(tensor: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Make the tensor's GPU the current one."""
    if tensor.is_cuda and tensor.device.index != torch.cuda.current_device():
        return torch.cuda.device(tensor.device)
    return contextlib.nullcontext()
