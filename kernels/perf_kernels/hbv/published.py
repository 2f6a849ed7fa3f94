"""What is the published grid, and what must an implementation give on it, and how closely?

A shorter series is the first days of the longest, fewer basins are the first of the most: what the reference gives for
the largest size then holds for all, and is computed once.

*How closely* follows from the model itself. An implementation in fp32 rounds: what it gives for a day is what exact
arithmetic gives for parameters and storages that are a few roundings away. So the reference runs in fp64 on the inputs,
and on copies whose parameters and storages are moved every day by ``ROUNDINGS`` units of roundoff, each up or down at
random; an implementation may be as far from the reference as those copies come. It says which basins forget an error
and which keep it, and how far it gets in years, without comparing with another fp32 implementation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from perf_kernels.hbv.inputs import Inputs, published_inputs
from perf_kernels.hbv.reference import PARAMETERS, hbv_reference, one_day

BASINS = (32, 64, 128, 256, 512, 1024)
DAYS = (100, 365, 730, 1461)
#: Basins that fill a large GPU.
MANY_BASINS = 65536
#: Basins that are compared with the reference in each size.
CHECKED = 16
#: Units of roundoff, 2**-24, by which a day moves parameters and storages. The worst of 256 basins needs 5 in plain
#: torch, and 7 with NVIDIA's approximate logarithm in the fused kernel.
ROUNDINGS = 16
_UNIT = 2.0**-24
#: Copies that are moved.
_COPIES = 3
#: Largest error of a gradient, relative to the largest gradient of the same parameter. Moved copies stay below 7e-5
#: over 1461 days, unless fp32 and fp64 are on different sides of a kink: one basin may be.
GRADIENT_ERROR = 3e-4
#: A flux of the smooth model reaches -0.0278, and the discharge is a few of them.
LOWEST_DISCHARGE = -0.1


@dataclass(frozen=True)
class Expected:
    """What the reference gives for some basins in fp64.

    Attributes:
        discharge: [T, C], mm a day.
        error: [T, C], mm a day: the largest error up to this day that rounding explains.
    """

    discharge: torch.Tensor
    error: torch.Tensor


class Published:
    """The published inputs in several sizes, and checks of what an implementation made of them.

    Args:
        days: the lengths of series.
        basins: the numbers of basins.
    """

    def __init__(self, days: Sequence[int] = DAYS, basins: Sequence[int] = BASINS) -> None:
        self._largest = published_inputs(max(days), max(basins))
        of_sizes = {size: torch.linspace(0, size - 1, min(size, CHECKED)).long().tolist() for size in basins}
        columns = sorted(set().union(*of_sizes.values()))
        self._few = Inputs(*(tensor[:, columns].double() for tensor in self._largest))
        #: By number of basins, where the checked ones are: among all, and among those that the reference runs.
        self._checked = {
            size: (torch.tensor(chosen), torch.tensor([columns.index(column) for column in chosen]))
            for size, chosen in of_sizes.items()
        }
        self._expected = functools.cache(self._expect)
        self._gradients = functools.cache(self._differentiate)

    def inputs(self, days: int, basins: int, device: torch.device | str) -> Inputs:
        """Give the inputs of one size, contiguous."""
        forcings = [tensor[:days, :basins] for tensor in self._largest[:3]]
        others = [tensor[:, :basins] for tensor in self._largest[3:]]
        return Inputs(*(tensor.contiguous() for tensor in (*forcings, *others))).to(device)

    def discharge_error(self, discharge: torch.Tensor, *, smooth: bool) -> float:
        """Give the largest error of a discharge [T, B], as a share of what rounding explains; above 1 it is wrong.

        Raises:
            AssertionError: a basin, checked or not, has a discharge that cannot be.
        """
        days, basins = discharge.shape
        assert discharge.isfinite().all(), "the discharge is not finite everywhere"
        assert discharge.min() >= LOWEST_DISCHARGE, f"the discharge falls to {discharge.min():.3g} mm a day"
        at, among = self._checked[basins]
        expected = self._expected(smooth)
        error = (discharge[:, at.to(discharge.device)].cpu() - expected.discharge[:days, among]).abs()
        return float((error.amax(dim=0) / expected.error[days - 1, among]).max())

    def check_discharge(self, discharge: torch.Tensor, *, smooth: bool) -> float:
        """Raise AssertionError unless a discharge [T, B] is right up to rounding; give :meth:`discharge_error`."""
        share = self.discharge_error(discharge, smooth=smooth)
        assert share <= 1, f"the discharge is {share:.3g} times as far from the reference as rounding explains"
        return share

    def check_gradients(self, gradient: torch.Tensor, days: int, *, smooth: bool) -> None:
        """Raise AssertionError unless the gradients [14, B] of the sum of the discharge are those of the reference."""
        at, among = self._checked[gradient.shape[1]]
        expected = self._gradients(days, smooth)[:, among]
        error = (gradient[:, at.to(gradient.device)].cpu() - expected).abs()
        largest = expected.abs().amax(dim=1, keepdim=True)
        # In a few days a parameter may play no part in any basin.
        share = (error / largest.where(largest > 0, 1)).amax(dim=0)
        wrong = int((~(share <= GRADIENT_ERROR)).sum())
        assert wrong <= 1, f"the gradients of {wrong} of {len(at)} basins are wrong, by up to {share.max():.3g}"

    def _expect(self, smooth: bool) -> Expected:
        return expect(self._few, smooth=smooth)

    def _differentiate(self, days: int, smooth: bool) -> torch.Tensor:
        series = [tensor[:days] for tensor in self._few[:3]]
        parameters = self._few.parameters.clone().requires_grad_()
        discharge, _ = hbv_reference(*series, parameters, initial=self._few.initial, smooth=smooth)
        (gradient,) = torch.autograd.grad(discharge.sum(), parameters)
        return gradient


def expect(inputs: Inputs, *, smooth: bool) -> Expected:
    """Run the reference on inputs in fp64, and on copies of them that are moved as rounding moves them."""
    basins = inputs.parameters.shape[1]
    wide = Inputs(*(tensor.repeat(1, 1 + _COPIES) for tensor in inputs))
    generator = torch.Generator().manual_seed(0)
    amount = torch.full((len(PARAMETERS) + len(inputs.initial), 1), ROUNDINGS * _UNIT, dtype=torch.float64)
    # The sign of T - TT is exact in fp32.
    amount[PARAMETERS.index("TT")] = 0
    amount = amount * (torch.arange(wide.parameters.shape[1]) >= basins)
    states, discharge = wide.initial, []
    for forcing in zip(*wide[:3], strict=True):
        signs = 2 * torch.randint(0, 2, amount.shape, generator=generator) - 1
        of_parameters, of_states = (1 + signs * amount).split([len(PARAMETERS), len(states)])
        day = one_day(*forcing, wide.parameters * of_parameters, states * of_states, smooth=smooth)
        states = day.states
        discharge.append(day.discharge)
    exact, *moved = torch.stack(discharge).split(basins, dim=1)
    error = torch.stack([(copy - exact).abs() for copy in moved]).amax(dim=0)
    # The sum of the three fluxes is rounded too.
    return Expected(exact, (error + ROUNDINGS * _UNIT * exact.abs()).cummax(dim=0).values)
