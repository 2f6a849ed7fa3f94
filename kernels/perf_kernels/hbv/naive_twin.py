"""What does the forward kernel look like with 32-bit offsets? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from perf_kernels.hbv.day import one_day
from perf_kernels.hbv.loads import load_parameters, load_states
from perf_kernels.target import current_target


@triton.jit(do_not_specialize=["days", "basins"])
def naive_kernel(
    p_ptr,
    t_ptr,
    pet_ptr,
    parameters_ptr,
    q_ptr,
    days,
    basins,
    SMOOTH: tl.constexpr,
    PTX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Run all days of BLOCK basins; ``day * basins`` wraps past 2**31."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < basins
    column = tl.minimum(column, basins - 1)
    parameters = load_parameters(parameters_ptr, column, basins)
    s, m, sm, suz, slz = load_states(None, column, basins)
    for day in range(days):
        offset = column + basins * day
        p, t, pet = tl.load(p_ptr + offset), tl.load(t_ptr + offset), tl.load(pet_ptr + offset)
        q, s, m, sm, suz, slz, _ = one_day(p, t, pet, s, m, sm, suz, slz, parameters, SMOOTH, PTX)
        tl.store(q_ptr + offset, q, mask=inside)


def naive_hbv(
    precipitation: torch.Tensor, temperature: torch.Tensor, pet: torch.Tensor, parameters: torch.Tensor
) -> torch.Tensor:
    """Give the discharge [T, B] of the hard model; arguments as :func:`perf_kernels.hbv.hbv` takes them, contiguous."""
    days, basins = precipitation.shape
    q = torch.empty_like(precipitation)
    target = current_target()
    arguments = (precipitation, temperature, pet, parameters, q, days, basins)
    naive_kernel[(triton.cdiv(basins, target.lanes),)](
        *arguments, SMOOTH=False, PTX=target.backend == "cuda", BLOCK=target.lanes, num_warps=1, enable_fp_fusion=True
    )
    return q
