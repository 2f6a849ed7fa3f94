"""How are HBV's parameters fitted to a measured discharge? By gradients through the whole series, within bounds.

Every basin is a catchment of its own, and all are fitted at once. Imports torch: import it where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from perf_workloads.hbv.day import series
from perf_workloads.hbv.models import Model

#: Days that count for nothing: the storages are not known at the start.
WARM_UP_DAYS = 30
_YEAR = 365.0


@dataclass(frozen=True)
class Catchments:
    """What is known of catchments.

    Attributes:
        forcings: precipitation in mm a day, temperature in degrees Celsius, potential evapotranspiration in mm a day;
            each [T, B].
        initial: [5, B], storages before the first day, in mm.
        observed: [T, B], measured discharge in mm a day.
    """

    forcings: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    initial: torch.Tensor
    observed: torch.Tensor

    def to(self, device: torch.device | str) -> Catchments:
        """Move everything to a device."""
        precipitation, temperature, pet = (tensor.to(device) for tensor in self.forcings)
        return Catchments((precipitation, temperature, pet), self.initial.to(device), self.observed.to(device))


@dataclass(frozen=True)
class Fit:
    """What a fit found.

    Attributes:
        parameters: [14, B].
        losses: of every step, before it.
        efficiency: [B], Nash-Sutcliffe efficiency of each catchment at the end: 1 is perfect, 0 as good as the mean.
    """

    parameters: torch.Tensor
    losses: list[float]
    efficiency: torch.Tensor


def fit(
    model: Model,
    catchments: Catchments,
    bounds: Sequence[tuple[float, float]],
    *,
    steps: int,
    rate: float = 0.1,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Fit:
    """Fit the 14 parameters of each catchment with Adam, from the middle of their ranges.

    Args:
        model: gives discharge [T, B] with gradients, e.g. :func:`perf_kernels.hbv.hbv` or an eager loop.
        catchments: what is known.
        bounds: lowest and highest value of each parameter.
        steps: of the optimiser.
        rate: its step size, for parameters on the scale of a sigmoid.
        report: is told the number of a step and the loss before it; reading the loss waits for the GPU.
    """
    training = Training(model, catchments, bounds, rate)
    losses = []
    for step in range(steps):
        losses.append(float(training.step()))
        report(step, losses[-1])
    with torch.no_grad():
        parameters = training.parameters()
        return Fit(parameters, losses, training.efficiency(parameters))


class Training:
    """A fit that is under way: raw parameters without bounds, and their optimiser.

    Args:
        model: as :func:`fit` takes it.
        catchments: likewise.
        bounds: likewise.
        rate: likewise.
    """

    def __init__(
        self, model: Model, catchments: Catchments, bounds: Sequence[tuple[float, float]], rate: float = 0.1
    ) -> None:
        self._model, self._catchments = model, catchments
        of_basins = catchments.initial.new_tensor(bounds)[:, :, None]
        self._low, self._high = of_basins.unbind(1)
        basins = catchments.initial.shape[1]
        self._raw = catchments.initial.new_zeros(len(bounds), basins).requires_grad_()
        self._optimizer = torch.optim.Adam([self._raw], lr=rate)

    def parameters(self) -> torch.Tensor:
        """Give the parameters [14, B]: a sigmoid keeps each between its bounds."""
        return self._low + (self._high - self._low) * torch.sigmoid(self._raw)

    def efficiency(self, parameters: torch.Tensor) -> torch.Tensor:
        """Give the Nash-Sutcliffe efficiency [B] of the discharge that parameters [14, B] give."""
        simulated = self._model(*self._catchments.forcings, parameters, self._catchments.initial)[0]
        return nash_sutcliffe(simulated[WARM_UP_DAYS:], self._catchments.observed[WARM_UP_DAYS:])

    def step(self) -> torch.Tensor:
        """Take one step and give the loss before it: 1 less the mean efficiency."""
        self._optimizer.zero_grad()
        loss = 1 - self.efficiency(self.parameters()).mean()
        loss.backward()
        self._optimizer.step()
        return loss.detach()


def nash_sutcliffe(simulated: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Give 1 - (sum of squared errors) / (sum of squared deviations from the observed mean) of each basin, [B]."""
    wrong = (simulated - observed).square().sum(0)
    return 1 - wrong / (observed - observed.mean(0)).square().sum(0)


def synthetic_catchments(
    days: int, basins: int, bounds: Sequence[tuple[float, float]], *, seed: int = 0
) -> tuple[Catchments, torch.Tensor]:
    """Invent catchments, fp32 on the CPU: a year of seasons, storms, and what the hard model makes of them.

    Args:
        days: T.
        basins: B.
        bounds: lowest and highest value of each parameter; the true ones lie in the middle half.
        seed: of all that is drawn.

    Returns:
        The catchments, and their true parameters [14, B].
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    # It is coldest on the first day, so that short series have snow and its melt too.
    season = torch.cos(2 * math.pi * torch.arange(days, dtype=torch.float64) / _YEAR)[:, None]
    temperature = 6 - 9 * season + 6 * (uniform(days, basins) - 0.5)
    pet = (2.2 - 2 * season) * (0.5 + uniform(days, basins))
    # Rain on four days of ten, exponentially distributed.
    precipitation = -9 * torch.log1p(-uniform(days, basins)) * (uniform(days, basins) < 0.4)
    low, high = torch.tensor(bounds, dtype=torch.float64)[:, :, None].unbind(1)
    parameters = low + (high - low) * (0.25 + 0.5 * uniform(len(bounds), basins))
    initial = torch.tensor([0.0, 0.0, 100.0, 10.0, 20.0], dtype=torch.float64)[:, None].expand(5, basins)
    observed, _ = series(precipitation, temperature, pet, parameters, initial, False)
    forcings = (precipitation.float(), temperature.float(), pet.float())
    return Catchments(forcings, initial.float(), observed.float()), parameters.float()
