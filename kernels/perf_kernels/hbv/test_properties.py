"""Do the kernels do what a rainfall-runoff model must, and are its two forms two models?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.hbv import PARAMETERS, hbv, hbv_reference
from perf_kernels.hbv.inputs import RANGES, Inputs, published_inputs, wide_inputs
from perf_kernels.hbv.reference import SMALLEST_SOIL_MOISTURE
from perf_kernels.target import DEVICE_TYPE as DEVICE
from perf_kernels.undeclared_tests import few_days, without_ptx

pytestmark = without_ptx

examples = settings.get_profile("perf_kernels")
few_examples = settings(examples, max_examples=max(examples.max_examples // 4, 5))
seeds = st.integers(0, 2**31 - 1)
models = st.booleans()


def run(inputs: Inputs, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    return hbv(*inputs[:4], initial=inputs.initial, **options)


@few_days
@few_examples
@given(st.integers(3, 12), seeds)
def test_water_balance(days: int, seed: int) -> None:
    """Without evaporation all water is in the storages or in the discharge."""
    inputs = wide_inputs(days, 32, DEVICE, seed)
    inputs = inputs._replace(pet=torch.zeros_like(inputs.pet))
    q, storages = run(inputs)
    come = inputs.initial.double().sum(0) + inputs.precipitation.double().sum(0)
    gone = storages.double().sum(0) + q.double().sum(0)
    # The floor under the soil moisture adds 1e-5 mm a day at most.
    assert ((come - gone).abs() <= 1e-6 * come + SMALLEST_SOIL_MOISTURE * days).all()


@few_days
@few_examples
@given(st.integers(1, 12), seeds)
def test_storages_are_not_negative(days: int, seed: int) -> None:
    q, storages = run(wide_inputs(days, 32, DEVICE, seed))
    assert (storages >= 0).all()
    assert (q >= 0).all()


@few_days
@few_examples
@given(st.integers(2, 10), st.data(), models, seeds)
def test_a_series_in_two_parts(days: int, data: st.DataObject, smooth: bool, seed: int) -> None:
    """Bit for bit: nothing but the five storages goes from one day to the next."""
    inputs = wide_inputs(days, 32, DEVICE, seed)
    cut = data.draw(st.integers(1, days - 1))
    whole, last = run(inputs, smooth=smooth)
    first, middle = hbv(*(tensor[:cut] for tensor in inputs[:3]), inputs[3], initial=inputs.initial, smooth=smooth)
    second, end = hbv(*(tensor[cut:] for tensor in inputs[:3]), inputs[3], initial=middle, smooth=smooth)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(end, last)


@few_days
@few_examples
@given(st.integers(2, 80), models, seeds)
def test_basins_do_not_see_each_other(basins: int, smooth: bool, seed: int) -> None:
    inputs = wide_inputs(3, basins, DEVICE, seed)
    order = torch.randperm(basins, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    q, storages = run(inputs, smooth=smooth)
    permuted, permuted_storages = run(Inputs(*(tensor[:, order] for tensor in inputs)), smooth=smooth)
    assert torch.equal(permuted, q[:, order])
    assert torch.equal(permuted_storages, storages[:, order])


def test_hard_and_smooth_are_two_models() -> None:
    """After 20 days half of the basins differ by a hundred times what rounding explains, and more than that."""
    inputs = published_inputs(20, 64, DEVICE)
    hard, smooth = (run(inputs, smooth=smooth)[0] for smooth in (False, True))
    assert (hard - smooth).abs().amax(dim=0).median() > 1e-3


@few_days
@pytest.mark.parametrize("function", [hbv, hbv_reference], ids=["fused", "reference"])
def test_the_smooth_model_dips_below_zero(function: object) -> None:
    """``x (tanh(5 x) + 1) / 2`` is -0.0278 at -0.128, and so far can a flux be negative; in the hard model none is."""
    values = {name: sum(RANGES[name]) / 2 for name in PARAMETERS}
    values |= {"UZL": 0.128, "PERC": 0.0, "K0": 0.9, "K1": 0.01, "K2": 0.001}
    parameters = torch.tensor([[values[name]] for name in PARAMETERS], device=DEVICE)
    # Mild and dry; nothing but soil moisture is there, so that Q0 is K0 r(-UZL).
    forcings = [torch.full((1, 1), value, device=DEVICE) for value in (0.0, 5.0, 0.0)]
    initial = torch.tensor([[0.0], [0.0], [50.0], [0.0], [0.0]], device=DEVICE)
    smooth, _ = function(*forcings, parameters, initial=initial, smooth=True)
    hard, _ = function(*forcings, parameters, initial=initial, smooth=False)
    # Q1 takes 1 % of what Q0 brought.
    assert smooth.item() == pytest.approx(-0.0278 * 0.9 * 0.99, rel=2e-3)
    assert hard.item() == 0
