"""What must the HBV model compute? Plain torch, one day after the other, readable, in fp32 or fp64.

Equations of HBV 1.1p, as in mhpi/hydrodl2. Two models share them: in the *hard* one ``r(x) = max(x, 0)`` and
``h(x) = [x >= 0]``; in the *smooth* one ``h(x) = (tanh(5 x) + 1) / 2`` and ``r(x) = x h(x)``, which dips to -0.0278, so
that fluxes and storages can be slightly negative.

Gradients are those of torch's operations as written here: ``minimum`` halves its subgradient between two equal
arguments, ``clamp`` passes it on at its bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: Rows of ``parameters: [14, B]``.
PARAMETERS = ("TT", "CFMAX", "CFR", "CWH", "FC", "BETA", "LP", "BETAET", "C", "PERC", "K0", "K1", "K2", "UZL")
#: Rows of ``states: [5, B]``, in mm: snow, melt water in it, soil moisture, upper and lower groundwater zone.
STATES = ("S", "M", "SM", "SUZ", "SLZ")
#: Every storage at the start, in mm, unless told otherwise.
INITIAL_STATE = 1e-3
#: Evaporation leaves at least this much soil moisture, in mm.
SMALLEST_SOIL_MOISTURE = 1e-5


@dataclass(frozen=True)
class Day:
    """What one day gives, each ``[B]`` in mm.

    Attributes:
        discharge: Q0 + Q1 + Q2, which leaves the basin.
        evaporation: ET, which leaves the soil.
        floor: water that keeps the soil moisture at its smallest value; comes from nowhere.
        states: [5, B] at the end of the day.
    """

    discharge: torch.Tensor
    evaporation: torch.Tensor
    floor: torch.Tensor
    states: torch.Tensor


@dataclass(frozen=True)
class Series:
    """What all days give, each ``[T, B]`` in mm a day, and the states ``[5, B]`` in mm after the last."""

    discharge: torch.Tensor
    evaporation: torch.Tensor
    floor: torch.Tensor
    states: torch.Tensor


def hbv_reference(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    *,
    smooth: bool = False,
    initial: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give what :func:`perf_kernels.hbv.hbv` gives, in the precision of the inputs: discharge [T, B], states [5, B]."""
    series = simulate(precipitation, temperature, pet, parameters, smooth=smooth, initial=initial)
    return series.discharge, series.states


def simulate(
    precipitation: torch.Tensor,
    temperature: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    *,
    smooth: bool = False,
    initial: torch.Tensor | None = None,
) -> Series:
    """Run the model and keep every flux.

    Args:
        precipitation: [T, B], mm a day.
        temperature: [T, B], degrees Celsius.
        pet: [T, B], potential evapotranspiration, mm a day.
        parameters: [14, B], rows as :data:`PARAMETERS` names them.
        smooth: which of the two models.
        initial: [5, B], rows as :data:`STATES` names them; by default every storage holds 1e-3 mm.
    """
    if initial is None:
        initial = torch.full_like(parameters[:5], INITIAL_STATE)
    states, days = initial, []
    for forcing in zip(precipitation, temperature, pet, strict=True):
        days.append(one_day(*forcing, parameters, states, smooth=smooth))
        states = days[-1].states
    empty = torch.zeros_like(precipitation)
    if not days:
        return Series(empty, empty, empty, states)
    return Series(
        torch.stack([day.discharge for day in days]),
        torch.stack([day.evaporation for day in days]),
        torch.stack([day.floor for day in days]),
        states,
    )


def one_day(
    p: torch.Tensor,
    t: torch.Tensor,
    pet: torch.Tensor,
    parameters: torch.Tensor,
    states: torch.Tensor,
    *,
    smooth: bool,
) -> Day:
    """Advance ``states: [5, B]`` by a day with the forcings ``p``, ``t`` and ``pet``, each [B]."""
    tt, cfmax, cfr, cwh, fc, beta, lp, betaet, c, perc_max, k0, k1, k2, uzl = parameters
    s, m, sm, suz, slz = states

    def h(x: torch.Tensor) -> torch.Tensor:
        return (torch.tanh(5 * x) + 1) / 2 if smooth else (x >= 0).to(x.dtype)

    def r(x: torch.Tensor) -> torch.Tensor:
        return x * h(x) if smooth else x.clamp(min=0)

    # Snow
    rain = p * h(t - tt)
    s = s + (p - rain)
    melt = torch.minimum(cfmax * r(t - tt), s)
    s, m = s - melt, m + melt
    refreeze = torch.minimum(cfr * cfmax * r(tt - t), m)
    s, m = s + refreeze, m - refreeze
    to_soil = r(m - cwh * s)
    m = m - to_soil

    # Soil
    inflow = rain + to_soil
    recharge = inflow * (sm / fc).clamp(0, 1) ** beta
    sm = sm + inflow - recharge
    excess = r(sm - fc)
    sm = sm - excess
    demand = pet * (sm / (lp * fc)).clamp(0, 1) ** betaet
    evaporation = sm - r(sm - demand) if smooth else torch.minimum(sm, demand)
    dried = sm - evaporation
    sm = dried.clamp(min=SMALLEST_SOIL_MOISTURE)
    floor = sm - dried

    # Capillary rise
    capillary = torch.minimum(slz, c * slz * (1 - (sm / fc).clamp(max=1)))
    sm, slz = sm + capillary, slz - capillary

    # Groundwater
    suz = suz + recharge + excess
    perc = torch.minimum(suz, perc_max)
    suz = suz - perc
    q0 = k0 * r(suz - uzl)
    suz = suz - q0
    q1 = k1 * suz
    suz = suz - q1
    slz = slz + perc
    q2 = k2 * slz
    slz = slz - q2
    return Day(q0 + q1 + q2, evaporation, floor, torch.stack([s, m, sm, suz, slz]))
