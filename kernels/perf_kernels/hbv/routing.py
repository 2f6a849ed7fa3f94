"""How does the discharge of a basin reach its outlet? A unit hydrograph from the gamma distribution, in plain torch."""

from __future__ import annotations

import torch

#: Days over which the water of one day arrives.
LENGTH = 15


def unit_hydrograph(a: torch.Tensor, b: torch.Tensor, length: int = LENGTH) -> torch.Tensor:
    """Give the share of a day's water that arrives 0, 1, ... days later, ``[length, B]``; a basin's shares sum to 1.

    ``t**(a' - 1) exp(-t / theta)`` at t = 0.5, 1.5, ..., normalised, with a' = relu(a) + 0.1 and
    theta = relu(b) + 0.5, as in mhpi/hydrodl2.

    Args:
        a: [B], shape; useful from 0 to 2.9.
        b: [B], scale in days; useful from 0 to 6.5.
        length: days, at least 1.
    """
    shape, theta = torch.relu(a) + 0.1, torch.relu(b) + 0.5
    t = torch.arange(length, dtype=a.dtype, device=a.device)[:, None] + 0.5
    # The largest exponent of a basin is taken out, so that no share underflows where others do not.
    return torch.softmax((shape - 1) * t.log() - t / theta, dim=0)


def route(q: torch.Tensor, a: torch.Tensor, b: torch.Tensor, length: int = LENGTH) -> torch.Tensor:
    """Route the discharge ``q: [T, B]`` of each basin with its own unit hydrograph; differentiable.

    Args:
        q: [T, B], mm a day. Water of days before the first is not there, that of the last days is still on its way.
        a: [B], as :func:`unit_hydrograph` takes it.
        b: [B], likewise.
        length: days of the unit hydrograph.

    Returns:
        [T, B], contiguous.

    Raises:
        ValueError: ``a`` or ``b`` is not [B].
    """
    days, basins = q.shape
    for name, tensor in (("a", a), ("b", b)):
        if tensor.shape != (basins,):
            raise ValueError(f"route: {name} is {list(tensor.shape)}; it must be {[basins]}")
    if q.numel() == 0:
        return q
    # conv1d correlates: the weights are flipped. One group a basin.
    weights = unit_hydrograph(a, b, length).flip(0).t()[:, None]
    routed = torch.nn.functional.conv1d(q.t()[None], weights, padding=length - 1, groups=basins)
    return routed[0, :, :days].t().contiguous()
