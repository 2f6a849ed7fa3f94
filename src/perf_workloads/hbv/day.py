"""What is one day of HBV, and a loop over the days, as tensor operations that TorchScript takes too?

Imports torch: import it where it is used. Names and equations are those of HBV 1.1p (mhpi/hydrodl2); see also
``perf_kernels.hbv.reference``, which these functions are checked against.
"""

# TorchScript resolves annotations itself, and no postponed ones.
import torch
from torch import Tensor


def step(x: Tensor, smooth: bool) -> Tensor:
    """Give a step at 0: 0 or 1, or (tanh(5 x) + 1) / 2."""
    if smooth:
        return (torch.tanh(5.0 * x) + 1.0) * 0.5
    return (x >= 0.0).to(x.dtype)


def ramp(x: Tensor, smooth: bool) -> Tensor:
    """Give x where it is positive, 0 elsewhere."""
    if smooth:
        return x * step(x, smooth)
    return x.clamp(min=0.0)


def day(
    p: Tensor, t: Tensor, pet: Tensor, storages: list[Tensor], of_basin: list[Tensor], smooth: bool
) -> tuple[Tensor, list[Tensor]]:
    """Advance a day.

    Args:
        p: precipitation [B].
        t: temperature [B].
        pet: potential evapotranspiration [B].
        storages: snow, melt water, soil moisture, upper and lower zone, each [B].
        of_basin: the 14 parameters, each [B].
        smooth: which of the two models.

    Returns:
        Discharge [B], and the storages.
    """
    tt, cfmax, cfr, cwh, fc, beta, lp, betaet, c, perc_max, k0, k1, k2, uzl = of_basin
    s, m, sm, suz, slz = storages
    rain = p * step(t - tt, smooth)
    s = s + (p - rain)
    melt = torch.minimum(cfmax * ramp(t - tt, smooth), s)
    m = m + melt
    s = s - melt
    refreeze = torch.minimum(cfr * cfmax * ramp(tt - t, smooth), m)
    s = s + refreeze
    m = m - refreeze
    to_soil = ramp(m - cwh * s, smooth)
    m = m - to_soil

    wetness = torch.pow((sm / fc).clamp(0.0, 1.0), beta)
    recharge = (rain + to_soil) * wetness
    sm = sm + rain + to_soil - recharge
    excess = ramp(sm - fc, smooth)
    sm = sm - excess
    demand = pet * torch.pow((sm / (lp * fc)).clamp(0.0, 1.0), betaet)
    evaporation = sm - ramp(sm - demand, smooth) if smooth else torch.minimum(sm, demand)
    sm = (sm - evaporation).clamp(min=1e-5)

    capillary = torch.minimum(slz, c * slz * (1.0 - (sm / fc).clamp(max=1.0)))
    sm = sm + capillary
    slz = slz - capillary

    suz = suz + recharge + excess
    perc = torch.minimum(suz, perc_max)
    suz = suz - perc
    q0 = k0 * ramp(suz - uzl, smooth)
    suz = suz - q0
    q1 = k1 * suz
    suz = suz - q1
    slz = slz + perc
    q2 = k2 * slz
    slz = slz - q2
    return q0 + q1 + q2, [s, m, sm, suz, slz]


def series(
    precipitation: Tensor, temperature: Tensor, pet: Tensor, parameters: Tensor, initial: Tensor, smooth: bool
) -> tuple[Tensor, Tensor]:
    """Run all days: forcings [T, B], parameters [14, B], storages [5, B]; give discharge [T, B] and storages [5, B]."""
    of_basin = parameters.unbind(0)
    storages = initial.unbind(0)
    ps, ts, pets = precipitation.unbind(0), temperature.unbind(0), pet.unbind(0)
    discharge: list[Tensor] = []
    for i in range(len(ps)):
        q, storages = day(ps[i], ts[i], pets[i], storages, of_basin, smooth)
        discharge.append(q)
    return torch.stack(discharge), torch.stack(storages)
