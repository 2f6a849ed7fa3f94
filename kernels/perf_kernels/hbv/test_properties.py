"""Do the kernels do what a rainfall-runoff model must, and are its two forms two models?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.hbv import PARAMETERS, STATES, hbv, hbv_reference
from perf_kernels.hbv.inputs import RANGES, Inputs, published_inputs, wide_inputs
from perf_kernels.hbv.reference import SMALLEST_SOIL_MOISTURE
from perf_kernels.row_tests import LAYOUTS, laid_out
from perf_kernels.target import DEVICE_TYPE as DEVICE
from perf_kernels.undeclared_tests import any_layout_of_series, few_days, without_ptx

pytestmark = without_ptx

examples = settings.get_profile("perf_kernels")
few_examples = settings(examples, max_examples=max(examples.max_examples // 4, 5))
some_examples = settings(examples, max_examples=max(examples.max_examples // 2, 5))
seeds = st.integers(0, 2**31 - 1)
models = st.booleans()
#: Each parameter has a range of its own, so rows are not repeated.
layouts = st.sampled_from([layout for layout in LAYOUTS if layout != "repeated"])


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


#: What no basin has, or hardly any: dry, too small for a normal number, and far too much.
ODD = [0.0, -0.0, 2.0**-149, 2.0**-126, 1e30]
NOT_FINITE = [torch.nan, torch.inf, -torch.inf]


def with_one_odd_number(inputs: Inputs, odd: float, data: st.DataObject) -> tuple[Inputs, str, int, int]:
    """Put a number anywhere into the forcings, parameters or storages; give its tensor, row and basin, too."""
    name = data.draw(st.sampled_from(Inputs._fields))
    drawn = Inputs(*(tensor.clone() for tensor in inputs))
    place = tuple(data.draw(st.integers(0, size - 1)) for size in getattr(drawn, name).shape)
    getattr(drawn, name)[place] = odd
    return drawn, name, *place


@some_examples
@given(st.sampled_from(ODD), models, st.data(), seeds)
def test_odd_numbers(odd: float, smooth: bool, data: st.DataObject, seed: int) -> None:
    """A basin that has one gives what the reference gives, to what is small beside its largest number."""
    inputs, name, row, basin = with_one_odd_number(wide_inputs(4, 32, DEVICE, seed), odd, data)
    if name == "parameters":
        inputs.parameters[row, basin].clamp_(*RANGES[PARAMETERS[row]])
    for got, expected in zip(
        run(inputs, smooth=smooth),
        hbv_reference(*inputs.to(torch.float64)[:4], initial=inputs.initial.double(), smooth=smooth),
        strict=True,
    ):
        largest = expected[:, basin].abs().max().clamp(min=1)
        assert (got - expected)[:, basin].abs().max() <= 1e-4 * largest


@some_examples
@given(st.sampled_from(NOT_FINITE), models, st.data(), seeds)
def test_what_is_not_finite_shows_in_its_basin_alone(
    value: float, smooth: bool, data: st.DataObject, seed: int
) -> None:
    """On the days on which it shows in the reference. Other basins, and the days before, keep their bits."""
    clean = wide_inputs(9, 32, DEVICE, seed)
    inputs, name, row, basin = with_one_odd_number(clean, value, data)
    # No storage is below 0, and every parameter has a range.
    if name == "initial":
        inputs.initial[row, basin] = abs(value)
    elif name == "parameters":
        inputs.parameters[row, basin] = torch.nan
    gave, expected = run(inputs, smooth=smooth), run(clean, smooth=smooth)
    shown = hbv_reference(*inputs[:4], initial=inputs.initial, smooth=smooth)
    others = torch.arange(32, device=DEVICE) != basin
    for found, before, theirs in zip(gave, expected, shown, strict=True):
        assert torch.equal(found[:, others], before[:, others])
        finite, finite_there = found[:, basin].isfinite(), theirs[:, basin].isfinite()
        if name == "parameters" and PARAMETERS[row] in ("BETA", "BETAET"):
            # In torch, 1 to the power of NaN is 1.
            finite_there &= finite
        assert torch.equal(finite, finite_there)
    if name in ("precipitation", "temperature", "pet"):
        assert torch.equal(gave[0][:row], expected[0][:row])


@few_examples
@given(st.sampled_from(NOT_FINITE), models, st.data(), seeds)
def test_gradients_of_other_basins_do_not_see_what_is_not_finite(
    value: float, smooth: bool, data: st.DataObject, seed: int
) -> None:
    clean = wide_inputs(4, 32, DEVICE, seed)
    inputs, _, _, basin = with_one_odd_number(clean, value, data)
    others = torch.arange(32, device=DEVICE) != basin
    found = []
    for drawn in (clean, inputs):
        leaves = Inputs(*(tensor.requires_grad_() for tensor in drawn))
        q, storages = run(leaves, smooth=smooth)
        found.append(torch.autograd.grad([q, storages], leaves, [torch.ones_like(q), torch.ones_like(storages)]))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one[:, others], other[:, others])


@few_days
@any_layout_of_series
@some_examples
@given(st.lists(layouts, min_size=7, max_size=7), st.integers(1, 7), st.integers(2, 40), models, seeds)
def test_strides_change_no_bit(of: list[str], days: int, basins: int, smooth: bool, seed: int) -> None:
    """Of what goes in, and of the gradients of what comes out; what lies between the numbers is NaN."""
    generator = torch.Generator().manual_seed(seed)
    gradients = [torch.rand(count, basins, generator=generator) for count in (days, len(STATES))]
    drawn = [*wide_inputs(days, basins, DEVICE, seed), *gradients]
    views = [laid_out(tensor.to(DEVICE), layout) for tensor, layout in zip(drawn, of, strict=True)]
    found = []
    for tensors in (views, [view.contiguous() for view in views]):
        leaves = Inputs(*(tensor.detach().requires_grad_() for tensor in tensors[:5]))
        outputs = run(leaves, smooth=smooth)
        found.append([*outputs, *torch.autograd.grad(outputs, leaves, tensors[5:])])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


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
