"""How do the kernels load a basin's parameters, its storages and the forcings of some days?"""

from __future__ import annotations

import triton.language as tl

from perf_kernels.hbv.day import device_function
from perf_kernels.hbv.reference import INITIAL_STATE

_INITIAL = tl.constexpr(INITIAL_STATE)


@device_function
def load_parameters(parameters_ptr, column, basins):
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
def load_states(states_ptr, column, basins):
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
def load_chunk(p_ptr, t_ptr, pet_ptr, row, basins, DAYS: tl.constexpr):
    """Load the forcings of ``DAYS`` days from ``row`` on: a tuple of 3 * DAYS tensors [BLOCK]."""
    chunk = ()
    for j in tl.static_range(DAYS):
        offset = (row + j) * basins
        chunk = chunk + (tl.load(p_ptr + offset), tl.load(t_ptr + offset), tl.load(pet_ptr + offset))
    return chunk
