"""What does one day of HBV compute, and how do gradients go back through it? Functions for the kernels.

A day is a chain of some twenty dependent operations, and that chain is what the kernels' time is made of:

- No division: reciprocals of FC and LP FC are taken once. ``(SM / FC)**BETA`` is ``exp2(BETA log2(SM / FC))``.
- On NVIDIA GPUs logarithm and reciprocal are one instruction each, where Triton's own take ten; AMD's are short.
- ``SM - min(SM, demand)``, then at least 1e-5, is ``max(SM - demand, 1e-5)``, gradients included: where the minimum is
  SM, the floor stops the gradient.

All values are fp32 ``[BLOCK]``, one for each basin of a program; names are those of the reference.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.hbv.reference import SMALLEST_SOIL_MOISTURE
from perf_kernels.target import INTERPRETED

#: The interpreter takes 20 ms to call a function through triton.jit, and a day calls twenty.
device_function = (lambda function: function) if INTERPRETED else triton.jit

_FLOOR = tl.constexpr(SMALLEST_SOIL_MOISTURE)
#: The smallest normal number: a power of it is nearly 0, and its logarithm is finite.
_TINY = tl.constexpr(2.0**-126)
#: 10 / ln 2: ``(tanh(5 x) + 1) / 2`` is ``1 / (1 + exp2(-_STEEP x))``.
_STEEP = tl.constexpr(14.426950408889634)
_LN2 = tl.constexpr(0.6931471805599453)


@device_function
def _maximum(x, y):
    """Give the larger one, or NaN where one of them is."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@device_function
def _minimum(x, y):
    """Give the smaller one, or NaN where one of them is."""
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@device_function
def _log2(x, PTX: tl.constexpr):
    """Give log2(x) of a normal number, to 2**-22 where PTX has one instruction for it."""
    if PTX:
        return tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, is_pure=True, pack=1)
    else:
        return tl.log2(x)


@device_function
def _log2_share(x, PTX: tl.constexpr):
    """Give log2 of x clipped to [0, 1]."""
    return _minimum(_log2(_maximum(x, _TINY), PTX), 0.0)


@device_function
def _h(x, SMOOTH: tl.constexpr, PTX: tl.constexpr):
    """Give h(x): a step at 0."""
    if SMOOTH:
        x = 1.0 + tl.exp2(x * -_STEEP)
        if PTX:
            return tl.inline_asm_elementwise(
                "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, is_pure=True, pack=1
            )
        else:
            return 1.0 / x
    else:
        return tl.where(x >= 0.0, 1.0, 0.0)


@device_function
def _r(x, SMOOTH: tl.constexpr, PTX: tl.constexpr):
    """Give r(x)."""
    if SMOOTH:
        return x * _h(x, SMOOTH, PTX)
    else:
        return _maximum(x, 0.0)


@device_function
def _dr(x, SMOOTH: tl.constexpr, PTX: tl.constexpr):
    """Give the derivative of r."""
    step = _h(x, SMOOTH, PTX)
    if SMOOTH:
        return step + 10.0 * x * step * (1.0 - step)
    else:
        return step


@device_function
def _share(x, y):
    """Give the derivative of min(x, y) with respect to x."""
    return tl.where(x < y, 1.0, tl.where(x == y, 0.5, 0.0))


@device_function
def one_day(p, t, pet, s, m, sm, suz, slz, parameters, SMOOTH: tl.constexpr, PTX: tl.constexpr):
    """Advance one day.

    Returns:
        The discharge, the five storages, and what the backward pass needs of the way there.
    """
    tt, cfmax, cfrmax, cwh, fc, per_fc, beta, _, per_lpfc, betaet, c, perc_max, k0, k1, k2, uzl = parameters

    # Snow
    warmth = t - tt
    rain = p * _h(warmth, SMOOTH, PTX)
    s1 = s + (p - rain)
    melt_limit = cfmax * _r(warmth, SMOOTH, PTX)
    melt = _minimum(melt_limit, s1)
    m1 = m + melt
    refreeze_limit = cfrmax * _r(-warmth, SMOOTH, PTX)
    refreeze = _minimum(refreeze_limit, m1)
    s3 = s1 - melt + refreeze
    m2 = m1 - refreeze
    above_held = m2 - cwh * s3
    to_soil = _r(above_held, SMOOTH, PTX)
    m3 = m2 - to_soil

    # Soil: a is the moisture before the excess leaves, b after that, d after evaporation.
    inflow = rain + to_soil
    log_wetness = _log2_share(sm * per_fc, PTX)
    wetness = tl.exp2(beta * log_wetness)
    recharge = inflow * wetness
    a = (sm + inflow) - recharge
    excess = _r(a - fc, SMOOTH, PTX)
    b = a - excess
    log_dryness = _log2_share(b * per_lpfc, PTX)
    dryness = tl.exp2(betaet * log_dryness)
    left = b - pet * dryness
    d = _maximum(_r(left, SMOOTH, PTX) if SMOOTH else left, _FLOOR)

    # Capillary rise
    gap = _maximum(1.0 - d * per_fc, 0.0)
    rise = c * slz * gap
    capillary = _minimum(slz, rise)
    sm_next = d + capillary

    # Groundwater
    suz1 = suz + (recharge + excess)
    perc = _minimum(suz1, perc_max)
    suz2 = suz1 - perc
    q0 = k0 * _r(suz2 - uzl, SMOOTH, PTX)
    suz3 = suz2 - q0
    q1 = k1 * suz3
    slz2 = slz - capillary + perc
    q2 = k2 * slz2
    needed = (s1, m1, melt_limit, refreeze_limit, s3, above_held, inflow, log_wetness, wetness)
    needed = needed + (a, b, log_dryness, dryness, left, d, gap, rise, suz1, suz2, suz3, slz2)
    return q0 + q1 + q2, s3, m3, sm_next, suz3 - q1, slz2 - q2, needed


@device_function
def day_backward(p, t, pet, sm, slz, needed, parameters, g_q, g_states, sums, SMOOTH: tl.constexpr, PTX: tl.constexpr):
    """Take the gradients of the five storages from the end of a day to its start.

    Returns:
        Those gradients, ``sums`` with the day's share of the parameters' gradients, and the gradients of the forcings.
    """
    tt, cfmax, cfrmax, cwh, fc, per_fc, beta, lpfc, per_lpfc, betaet, c, perc_max, k0, k1, k2, uzl = parameters
    s1, m1, melt_limit, refreeze_limit, s3, above_held, inflow, log_wetness, wetness = needed[:9]
    a, b, log_dryness, dryness, left, d, gap, rise, suz1, suz2, suz3, slz2 = needed[9:]
    g_s, g_m, g_sm, g_suz, g_slz = g_states
    sum_tt, sum_cfmax, sum_cfrmax, sum_cwh, sum_fc, sum_per_fc, sum_beta, sum_per_lpfc = sums[:8]
    sum_betaet, sum_c, sum_perc, sum_k0, sum_k1, sum_k2, sum_uzl = sums[8:]

    # Groundwater
    g_q2 = g_q - g_slz
    sum_k2 += slz2 * g_q2
    g_slz += k2 * g_q2
    g_q1 = g_q - g_suz
    sum_k1 += suz3 * g_q1
    g_suz += k1 * g_q1
    over = suz2 - uzl
    g_q0 = g_q - g_suz
    sum_k0 += _r(over, SMOOTH, PTX) * g_q0
    g_over = k0 * g_q0 * _dr(over, SMOOTH, PTX)
    sum_uzl -= g_over
    g_suz += g_over
    g_perc = g_slz - g_suz
    g_perc_suz = g_perc * _share(suz1, perc_max)
    sum_perc += g_perc - g_perc_suz
    g_suz += g_perc_suz

    # Capillary rise
    g_capillary = g_sm - g_slz
    g_rise = g_capillary * _share(rise, slz)
    g_rise_slz = g_rise * slz
    sum_c += g_rise_slz * gap
    g_slz += (g_capillary - g_rise) + g_rise * (c * gap)
    g_gap = tl.where(d <= fc, c * g_rise_slz, 0.0)
    sum_per_fc -= g_gap * d
    g_sm -= g_gap * per_fc

    # Evaporation
    if SMOOTH:
        g_left = tl.where(_r(left, SMOOTH, PTX) >= _FLOOR, g_sm * _dr(left, SMOOTH, PTX), 0.0)
    else:
        g_left = tl.where(left >= _FLOOR, g_sm, 0.0)
    g_pet = -g_left * dryness
    sum_betaet += g_pet * pet * log_dryness
    slope = betaet * tl.exp2((betaet - 1.0) * log_dryness)
    g_dryness = tl.where((b >= 0.0) & (b <= lpfc), -g_left * pet * slope, 0.0)
    sum_per_lpfc += g_dryness * b
    g_b = g_left + g_dryness * per_lpfc

    # Excess and recharge
    g_excess = (g_suz - g_b) * _dr(a - fc, SMOOTH, PTX)
    sum_fc -= g_excess
    g_a = g_b + g_excess
    g_recharge = g_suz - g_a
    g_inflow = g_a + g_recharge * wetness
    g_wetness = g_recharge * inflow
    sum_beta += g_wetness * wetness * log_wetness
    slope = beta * tl.exp2((beta - 1.0) * log_wetness)
    g_wetness = tl.where((sm >= 0.0) & (sm <= fc), g_wetness * slope, 0.0)
    sum_per_fc += g_wetness * sm
    g_sm = g_a + g_wetness * per_fc

    # Snow
    g_above = (g_inflow - g_m) * _dr(above_held, SMOOTH, PTX)
    sum_cwh -= g_above * s3
    g_m += g_above
    g_s -= cwh * g_above
    g_refreeze = g_s - g_m
    g_refreeze_limit = g_refreeze * _share(refreeze_limit, m1)
    g_m += g_refreeze - g_refreeze_limit
    g_melt = g_m - g_s
    g_melt_limit = g_melt * _share(melt_limit, s1)
    g_s += g_melt - g_melt_limit
    warmth = t - tt
    step = _h(warmth, SMOOTH, PTX)
    sum_cfmax += g_melt_limit * _r(warmth, SMOOTH, PTX)
    sum_cfrmax += g_refreeze_limit * _r(-warmth, SMOOTH, PTX)
    g_warmth = g_melt_limit * cfmax * _dr(warmth, SMOOTH, PTX) - g_refreeze_limit * cfrmax * _dr(-warmth, SMOOTH, PTX)
    g_rain = g_inflow - g_s
    if SMOOTH:
        g_warmth += g_rain * p * (10.0 * step * (1.0 - step))
    sum_tt -= g_warmth
    g_p = g_s + g_rain * step

    sums = (sum_tt, sum_cfmax, sum_cfrmax, sum_cwh, sum_fc, sum_per_fc, sum_beta, sum_per_lpfc)
    sums = sums + (sum_betaet, sum_c, sum_perc, sum_k0, sum_k1, sum_k2, sum_uzl)
    return (g_s, g_m, g_sm, g_suz, g_slz), sums, g_p, g_warmth, g_pet
