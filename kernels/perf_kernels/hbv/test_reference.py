"""Is the reference right: its gradients, its water balance, against an independent implementation?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from perf_kernels.hbv import PARAMETERS, hbv_reference, route
from perf_kernels.hbv.inputs import RANGES, Inputs, published_inputs, wide_inputs
from perf_kernels.hbv.reference import simulate

both_models = pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])


@both_models
def test_gradcheck_of_the_reference(smooth: bool) -> None:
    inputs = published_inputs(5, 2).to(torch.float64)
    leaves = tuple(tensor.requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(
        lambda *tensors: hbv_reference(*tensors[:4], initial=tensors[4], smooth=smooth), leaves, atol=1e-4
    )


@both_models
@pytest.mark.parametrize("draw", [published_inputs, wide_inputs])
def test_water_balance_of_the_reference(draw: Callable[..., Inputs], smooth: bool) -> None:
    inputs = draw(200, 50).to(torch.float64)
    series = simulate(*inputs[:4], initial=inputs.initial, smooth=smooth)
    come = inputs.initial.sum(0) + inputs.precipitation.sum(0) + series.floor.sum(0)
    gone = series.states.sum(0) + series.discharge.sum(0) + series.evaporation.sum(0)
    assert ((come - gone).abs() / come).max() <= 1e-12


def test_hydrodl2() -> None:
    """An independent implementation of HBV 1.1p.

    It takes each power before it clips, keeps the lower zone and the soil moisture at 1e-5 mm or more after the
    capillary rise, and has no initial storages but 1e-3 mm.
    """
    module = pytest.importorskip(
        "hydrodl2.models.hbv.hbv_1_1p", reason="hydrodl2 is not installed: pip install hydrodl2"
    )
    inputs = published_inputs(400, 6)
    config = {"warmup": 0, "dynamic_params": {}, "nmul": 1}
    model = module.Hbv_1_1p(config, device=torch.device("cpu"))
    assert {name.removeprefix("par"): tuple(bounds) for name, bounds in model.parameter_bounds.items()} == RANGES
    # It takes what a network would give: the inverse of a sigmoid, with a and b of the routing at the end.
    rows = {name: inputs.parameters[number] for number, name in enumerate(PARAMETERS)}
    shares = [(rows[name] - RANGES[name][0]) / (RANGES[name][1] - RANGES[name][0]) for name in model_order(model)]
    a, b = torch.linspace(0.3, 2.5, 6), torch.linspace(1, 6, 6)
    raw = torch.logit(torch.stack([*shares, a / 2.9, b / 6.5], dim=1).double()).float()
    with torch.no_grad():
        theirs = model({"x_phy": torch.stack(inputs[:3], dim=2)}, raw.expand(400, 6, 16))
    ours, _ = hbv_reference(*inputs[:4])
    torch.testing.assert_close(theirs["streamflow_no_rout"][:, :, 0], ours, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs["streamflow"][:, :, 0], route(ours, a, b), rtol=1e-4, atol=1e-4)


def model_order(model: object) -> list[str]:
    """Give the names of a hydrodl2 model's parameters in its order."""
    return [name.removeprefix("par") for name in model.parameter_bounds]
