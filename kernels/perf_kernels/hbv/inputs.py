"""Which inputs is HBV timed and checked on?"""

from __future__ import annotations

from typing import NamedTuple

import torch

from perf_kernels.hbv.reference import INITIAL_STATE, PARAMETERS, STATES

#: Lowest and highest value of each parameter, as in HBV 1.1p.
RANGES = {
    "TT": (-2.5, 2.5),
    "CFMAX": (0.5, 10.0),
    "CFR": (0.0, 0.1),
    "CWH": (0.0, 0.2),
    "FC": (50.0, 1000.0),
    "BETA": (1.0, 6.0),
    "LP": (0.2, 1.0),
    "BETAET": (0.3, 5.0),
    "C": (0.0, 1.0),
    "PERC": (0.0, 10.0),
    "K0": (0.05, 0.9),
    "K1": (0.01, 0.5),
    "K2": (0.001, 0.2),
    "UZL": (0.0, 100.0),
}
#: The same of the published benchmark.
PUBLISHED_RANGES = {
    "TT": (-1.0, 1.0),
    "CFMAX": (1.0, 4.0),
    "CFR": (0.0, 0.1),
    "CWH": (0.0, 0.2),
    "FC": (100.0, 300.0),
    "BETA": (1.0, 4.0),
    "LP": (0.3, 0.8),
    "BETAET": (0.5, 2.5),
    "C": (0.0, 0.1),
    "PERC": (0.5, 3.5),
    "K0": (0.1, 0.4),
    "K1": (0.01, 0.11),
    "K2": (0.001, 0.051),
    "UZL": (10.0, 40.0),
}
#: Lowest and highest initial storage of the published benchmark, in mm, in the order of STATES.
PUBLISHED_STATES = ((0.0, 10.0), (0.0, 5.0), (50.0, 150.0), (0.0, 20.0), (0.0, 30.0))
PUBLISHED_SEED = 42


class Inputs(NamedTuple):
    """Arguments of :func:`perf_kernels.hbv.hbv`, in its order.

    Attributes:
        precipitation: [T, B], mm a day.
        temperature: [T, B], degrees Celsius.
        pet: [T, B], mm a day.
        parameters: [14, B].
        initial: [5, B], mm.
    """

    precipitation: torch.Tensor
    temperature: torch.Tensor
    pet: torch.Tensor
    parameters: torch.Tensor
    initial: torch.Tensor

    def to(self, *args: object, **kwargs: object) -> Inputs:
        """Convert every tensor, as ``Tensor.to`` does."""
        return Inputs(*(tensor.to(*args, **kwargs) for tensor in self))


def published_inputs(days: int, basins: int, device: torch.device | str = "cpu", seed: int = PUBLISHED_SEED) -> Inputs:
    """Draw the inputs of the published benchmark, fp32: the same on every device."""
    draw = _Uniform(seed)
    precipitation, temperature, pet = draw(0, 10, days, basins), draw(-5, 15, days, basins), draw(0, 5, days, basins)
    initial = torch.stack([draw(*bounds, basins) for bounds in PUBLISHED_STATES])
    parameters = torch.stack([draw(*PUBLISHED_RANGES[name], basins) for name in PARAMETERS])
    return Inputs(precipitation, temperature, pet, parameters, initial).to(device)


def wide_inputs(days: int, basins: int, device: torch.device | str = "cpu", seed: int = 0) -> Inputs:
    """Draw parameters from their whole ranges, with dry days, frost, and storages from nearly empty to full; fp32."""
    draw = _Uniform(seed)
    precipitation = draw(0, 40, days, basins) * (draw(0, 1, days, basins) < 0.6)
    temperature = draw(-12, 20, days, basins)
    pet = draw(0, 8, days, basins) * (draw(0, 1, days, basins) < 0.8)
    parameters = torch.stack([draw(*RANGES[name], basins) for name in PARAMETERS])
    initial = draw(0, 40, 5, basins) * (draw(0, 1, 5, basins) < 0.8)
    initial[STATES.index("SM")] = parameters[PARAMETERS.index("FC")] * draw(0, 1.2, basins)
    return Inputs(precipitation, temperature, pet, parameters, initial + INITIAL_STATE).to(device)


class _Uniform:
    """Draw uniform numbers in fp32 on the CPU."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self._generator) * (high - low) + low
