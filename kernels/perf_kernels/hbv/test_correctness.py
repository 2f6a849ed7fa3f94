"""Do the kernels give what the reference and its autograd give, and what a rainfall-runoff model must?"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.hbv import (
    PARAMETERS,
    STATES,
    LaunchConfig,
    bytes_moved,
    bytes_moved_backward,
    hbv,
    hbv_reference,
    launch_config,
    route,
    unit_hydrograph,
)
from perf_kernels.hbv.function import hbv_backward_op, hbv_forward_op
from perf_kernels.hbv.inputs import RANGES, Inputs, published_inputs, wide_inputs
from perf_kernels.hbv.launch import checkpoints, saved_bytes
from perf_kernels.hbv.reference import INITIAL_STATE, SMALLEST_SOIL_MOISTURE, simulate
from perf_kernels.hbv.routing import LENGTH
from perf_kernels.target import DEVICE_TYPE as DEVICE

examples = settings.get_profile("perf_kernels")
few_examples = settings(examples, max_examples=max(examples.max_examples // 4, 5))
seeds = st.integers(0, 2**31 - 1)
models = st.booleans()
#: Chunks that the days do and do not fill, and reading further ahead than there are chunks.
configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        block=st.sampled_from([32, 64]),
        days=st.integers(1, 5),
        ahead=st.integers(1, 3),
    ),
)
draws: list[Callable[..., Inputs]] = [published_inputs, wide_inputs]
both_models = pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])


def run(inputs: Inputs, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    return hbv(*inputs[:4], initial=inputs.initial, **options)


def reference(inputs: Inputs, *, smooth: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return hbv_reference(*inputs[:4], initial=inputs.initial, smooth=smooth)


def assert_as_exact(got: torch.Tensor, inputs_gave: torch.Tensor, exact: torch.Tensor, floor: float) -> None:
    """At most twice the error of the reference in fp32, plus a floor relative to the largest value."""
    error, theirs = (got.double() - exact).abs().max(), (inputs_gave.double() - exact).abs().max()
    assert error <= 2 * theirs + floor * exact.abs().max().clamp(min=1), f"error {error:.3g}, in torch {theirs:.3g}"


@examples
@given(st.sampled_from(draws), st.integers(0, 11), st.integers(1, 40), models, configs, seeds)
def test_equals_reference(
    draw: Callable[..., Inputs], days: int, basins: int, smooth: bool, config: LaunchConfig | None, seed: int
) -> None:
    inputs = draw(days, basins, DEVICE, seed)
    got = run(inputs, smooth=smooth, config=config)
    plain = reference(inputs, smooth=smooth)
    exact = reference(inputs.to(torch.float64), smooth=smooth)
    for one, other, best in zip(got, plain, exact, strict=True):
        assert one.shape == best.shape
        assert one.is_contiguous()
        if one.numel():
            assert_as_exact(one, other, best, 1e-6)


def gradients(
    function: Callable[..., tuple[torch.Tensor, torch.Tensor]], inputs: Inputs, **options: object
) -> tuple[torch.Tensor, ...]:
    """Give the gradients of a weighted sum of discharge and final storages with respect to all inputs."""
    inputs = Inputs(*(tensor.detach().requires_grad_() for tensor in inputs))
    outputs = function(*inputs[:4], initial=inputs.initial, **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.rand(output.shape, generator=generator).to(output) for output in outputs]
    return torch.autograd.grad(outputs, inputs, weights)


def assert_same_gradients(got: tuple[torch.Tensor, ...], inputs: Inputs, *, smooth: bool) -> None:
    """Basin by basin; one where fp32 is on the other side of a kink in torch too is left out."""
    plain = gradients(hbv_reference, inputs, smooth=smooth)
    exact = gradients(hbv_reference, inputs.to(torch.float64), smooth=smooth)
    kept = torch.ones(inputs.parameters.shape[1], dtype=torch.bool, device=DEVICE)
    for one, best in zip(plain, exact, strict=True):
        kept &= ((one - best).abs() <= 1e-3 * best.abs().amax(dim=1, keepdim=True).clamp(min=1)).all(dim=0)
    assert kept.double().mean() >= 0.9
    for name, one, best in zip(Inputs._fields, got, exact, strict=True):
        largest = best[:, kept].abs().amax(dim=1, keepdim=True).clamp(min=1)
        error = ((one - best)[:, kept].abs() / largest).max()
        assert error <= 3e-5, f"{name}: {error:.3g}"


@few_examples
@given(st.integers(1, 9), st.integers(16, 32), models, configs, seeds)
def test_gradients_are_those_of_autograd(
    days: int, basins: int, smooth: bool, config: LaunchConfig | None, seed: int
) -> None:
    inputs = published_inputs(days, basins, DEVICE, seed)
    got = gradients(hbv, inputs, smooth=smooth, config=config)
    assert_same_gradients(got, inputs, smooth=smooth)


@both_models
def test_gradients_over_the_whole_ranges(smooth: bool) -> None:
    inputs = wide_inputs(10, 32, DEVICE, seed=7)
    if smooth:
        # Far from its threshold h is 0 in one precision and 1e-13 in another, which decides between two empty storages.
        near = inputs.parameters[PARAMETERS.index("TT")] + inputs.temperature / 10
        inputs = inputs._replace(temperature=near, precipitation=inputs.precipitation + 0.1)
    assert_same_gradients(gradients(hbv, inputs, smooth=smooth), inputs, smooth=smooth)


def a_basin(**values: float) -> torch.Tensor:
    """Give parameters [14, 1], each in the middle of its range unless told otherwise."""
    return torch.tensor([[values.get(name, sum(RANGES[name]) / 2)] for name in PARAMETERS])


#: Points on a kink, where the choice of the subgradient shows: forcings P, T, PET of some days, parameters, storages.
KINKS = {
    # The melt water is 0 and nothing refreezes: half of its gradient goes through the refreezing.
    "no melt water": ([(0, 5, 1), (3, 5, 1)], {"CWH": 0.0}, [0, 0, 50, 5, 5]),
    "no snow at the threshold": ([(0, 1, 1), (2, 1, 1)], {"TT": 1.0}, [0, 0, 50, 5, 5]),
    "snow as much as melts": ([(0, 2, 1)], {"TT": 0.0, "CFMAX": 2.0}, [4, 1, 50, 5, 5]),
    "full soil": ([(0, 5, 0), (4, 5, 0)], {"FC": 128.0}, [0, 1, 128, 5, 5]),
    "soil at the evaporation limit": ([(0, -5, 2), (0, -5, 2)], {"FC": 128.0, "LP": 0.5}, [0, 0, 64, 5, 5]),
    "nearly dry soil": ([(0, -5, 8), (0, -5, 8)], {"BETAET": 0.3, "C": 0.0}, [0, 0, 1e-5, 5, 5]),
    "percolation takes all": ([(0, -5, 1)], {"PERC": 4.0}, [0, 0, 50, 4, 5]),
    "lower zone rises whole": ([(0, -5, 1)], {"C": 1.0, "BETA": 1.0}, [0, 0, 1e-5, 5, 8]),
    "empty lower zone": ([(0, -5, 1)], {"PERC": 0.0}, [0, 0, 50, 5, 0]),
    "upper zone at the limit": ([(0, -5, 1)], {"PERC": 2.0, "UZL": 10.0}, [0, 0, 50, 12, 5]),
}


@pytest.mark.parametrize("case", KINKS)
def test_kinks_split_as_in_torch(case: str) -> None:
    forcings, parameters, storages = KINKS[case]
    series = torch.tensor(forcings, dtype=torch.float32).t()[:, :, None]
    initial = torch.tensor(storages, dtype=torch.float32)[:, None]
    inputs = Inputs(*series, a_basin(**parameters), initial).to(DEVICE)
    got = gradients(hbv, inputs)
    for name, one, other in zip(Inputs._fields, got, gradients(hbv_reference, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("of", ["parameters", "initial", "temperature", "discharge alone", "storages alone"])
def test_some_gradients(of: str) -> None:
    """What is not asked for changes nothing in what is."""
    inputs = published_inputs(4, 32, DEVICE)
    wanted = inputs._fields.index(of) if of in inputs._fields else 3
    found = []
    for function in (hbv, hbv_reference):
        tensors = [tensor.clone().requires_grad_(number == wanted) for number, tensor in enumerate(inputs)]
        q, storages = function(*tensors[:4], initial=tensors[4])
        losses = {"discharge alone": q.sum(), "storages alone": storages.sum()}
        losses.get(of, q.sum() + storages.square().sum()).backward()
        assert [tensor.grad is not None for tensor in tensors] == [number == wanted for number in range(5)]
        found.append(tensors[wanted].grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


@both_models
def test_gradcheck_of_the_reference(smooth: bool) -> None:
    inputs = published_inputs(5, 2).to(torch.float64)
    leaves = tuple(tensor.requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(
        lambda *tensors: hbv_reference(*tensors[:4], initial=tensors[4], smooth=smooth), leaves, atol=1e-4
    )


@both_models
def test_a_year_in_fp32(smooth: bool) -> None:
    days = 365 if DEVICE == "cuda" else 120
    inputs = published_inputs(days, 32, DEVICE)
    q, _ = run(inputs, smooth=smooth)
    exact, _ = reference(inputs.to(torch.float64), smooth=smooth)
    assert exact.max() > 5
    assert (q - exact).abs().max() <= 2.6e-5 * exact.max() / 7.1


@both_models
@pytest.mark.parametrize("draw", draws)
def test_water_balance_of_the_reference(draw: Callable[..., Inputs], smooth: bool) -> None:
    inputs = draw(200, 50).to(torch.float64)
    series = simulate(*inputs[:4], initial=inputs.initial, smooth=smooth)
    come = inputs.initial.sum(0) + inputs.precipitation.sum(0) + series.floor.sum(0)
    gone = series.states.sum(0) + series.discharge.sum(0) + series.evaporation.sum(0)
    assert ((come - gone).abs() / come).max() <= 1e-12


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


@few_examples
@given(st.integers(1, 12), seeds)
def test_storages_are_not_negative(days: int, seed: int) -> None:
    q, storages = run(wide_inputs(days, 32, DEVICE, seed))
    assert (storages >= 0).all()
    assert (q >= 0).all()


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


def test_gradients_of_a_series_in_two_parts() -> None:
    inputs = published_inputs(7, 32, DEVICE)
    parameters = inputs.parameters.requires_grad_()
    (whole,) = torch.autograd.grad(hbv(*inputs[:3], parameters)[0].sum(), parameters)
    first, middle = hbv(*(tensor[:3] for tensor in inputs[:3]), parameters)
    second, _ = hbv(*(tensor[3:] for tensor in inputs[:3]), parameters, initial=middle)
    (parts,) = torch.autograd.grad(first.sum() + second.sum(), parameters)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


@few_examples
@given(st.integers(2, 80), models, seeds)
def test_basins_do_not_see_each_other(basins: int, smooth: bool, seed: int) -> None:
    inputs = wide_inputs(3, basins, DEVICE, seed)
    order = torch.randperm(basins, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    q, storages = run(inputs, smooth=smooth)
    permuted, permuted_storages = run(Inputs(*(tensor[:, order] for tensor in inputs)), smooth=smooth)
    assert torch.equal(permuted, q[:, order])
    assert torch.equal(permuted_storages, storages[:, order])


def test_launches_agree() -> None:
    """Chunks, blocks and warps change no bit of the discharge."""
    inputs = published_inputs(7, 40, DEVICE)
    expected, _ = run(inputs)
    for days, ahead in itertools.product((1, 2, 7, 9), (1, 3)):
        q, _ = run(inputs, config=LaunchConfig(block=64, num_warps=2, days=days, ahead=ahead))
        assert torch.equal(q, expected)


def test_default_storages_and_strided_inputs() -> None:
    inputs = published_inputs(3, 32, DEVICE)
    initial = torch.full((len(STATES), 32), INITIAL_STATE, device=DEVICE)
    q, storages = hbv(*inputs[:4], initial=initial)
    strided = [tensor.t().contiguous().t() for tensor in inputs[:4]]
    again, storages_again = hbv(*strided)
    assert torch.equal(again, q)
    assert torch.equal(storages_again, storages)


@pytest.mark.parametrize(("days", "basins"), [(0, 3), (4, 0), (0, 0)])
def test_empty_series(days: int, basins: int) -> None:
    inputs = published_inputs(days, basins, DEVICE)
    got = gradients(hbv, inputs)
    for one, other in zip(run(inputs), reference(inputs, smooth=False), strict=True):
        assert torch.equal(one, other)
    weights = torch.rand((days, basins), generator=torch.Generator().manual_seed(1))
    assert torch.equal(got[3].cpu(), torch.zeros(len(PARAMETERS), basins))
    assert got[4].shape == (len(STATES), basins)
    assert weights.numel() == 0


def test_nothing_is_kept_without_gradients() -> None:
    inputs = published_inputs(2, 32, DEVICE)
    inputs.parameters.requires_grad_()
    with torch.no_grad():
        q, storages = run(inputs)
    assert not q.requires_grad
    assert not storages.requires_grad


def test_wrong_type() -> None:
    inputs = published_inputs(2, 3, DEVICE)
    with pytest.raises(TypeError) as caught:
        hbv(*inputs[:2], inputs.pet.double(), inputs.parameters)
    assert str(caught.value) == "hbv: pet is torch.float64; it must be torch.float32"


def test_wrong_shapes() -> None:
    inputs = published_inputs(2, 3, DEVICE)
    with pytest.raises(ValueError) as caught:
        hbv(inputs.precipitation[0], *inputs[1:4])
    assert str(caught.value) == "hbv: precipitation has 1 dimensions; it must have 2, days and basins"
    with pytest.raises(ValueError) as caught:
        hbv(inputs.precipitation, inputs.temperature[:1], *inputs[2:4])
    assert str(caught.value) == "hbv: temperature is [1, 3]; it must be [2, 3]"
    with pytest.raises(ValueError) as caught:
        hbv(*inputs[:3], inputs.parameters[:13])
    assert str(caught.value) == "hbv: parameters is [13, 3]; it must be [14, 3]"
    with pytest.raises(ValueError) as caught:
        hbv(*inputs[:4], initial=inputs.initial[:, :2])
    assert str(caught.value) == "hbv: initial is [5, 2]; it must be [5, 3]"


def test_wrong_device() -> None:
    with pytest.raises(ValueError) as caught:
        hbv(*published_inputs(2, 3, "meta")[:4])
    hint = {
        "cpu": "with TRITON_INTERPRET=1 it must be on the CPU",
        "cuda": "it must be on a GPU; on a CPU the kernel runs in Triton's interpreter, with TRITON_INTERPRET=1",
    }[DEVICE]
    assert str(caught.value) == f"hbv: precipitation is on meta; {hint}"


def test_operators() -> None:
    inputs = published_inputs(3, 4, DEVICE)
    checks = ("test_schema", "test_faketensor")
    for save in (False, True):
        torch.library.opcheck(hbv_forward_op, (*inputs, False, save), test_utils=checks)
    _, _, soil, checkpoint = hbv_forward_op(*inputs, False, True)
    arguments = (*inputs[:4], soil, checkpoint, torch.ones_like(soil), None, False)
    for forcings in (False, True):
        torch.library.opcheck(hbv_backward_op, (*arguments, forcings), test_utils=checks)


def test_under_torch_compile() -> None:
    """One graph without a break, forward and backward."""

    def loss(inputs: Inputs, parameters: torch.Tensor) -> torch.Tensor:
        q, storages = hbv(*inputs[:3], parameters * 1.0, initial=inputs.initial)
        return q.square().sum() + storages.sum()

    inputs = published_inputs(4, 32, DEVICE)
    found = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        parameters = inputs.parameters.clone().requires_grad_()
        value = function(inputs, parameters)
        value.backward()
        found.append((value.detach(), parameters.grad))
        assert torch.equal(function(inputs, inputs.parameters), value)
    torch.testing.assert_close(found[1], found[0])


def test_routing_spreads_the_water() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = 2.9 * torch.rand(7, generator=generator), 6.5 * torch.rand(7, generator=generator)
    shares = unit_hydrograph(a.double(), b.double())
    assert shares.shape == (LENGTH, 7)
    assert (shares > 0).all()
    assert (shares.sum(0) - 1).abs().max() <= 1e-14
    q = torch.zeros(40, 7, dtype=torch.float64)
    q[5] = 2.0
    routed = route(q, a.double(), b.double())
    torch.testing.assert_close(routed[5 : 5 + LENGTH], 2 * shares)
    assert routed[:5].abs().max() == 0
    # What falls early enough arrives whole; routing a sum is the sum of the routed.
    series = torch.rand(40, 7, dtype=torch.float64, generator=generator)
    series[-LENGTH:] = 0
    torch.testing.assert_close(route(series, a.double(), b.double()).sum(0), series.sum(0))
    torch.testing.assert_close(route(series + q, a, b.double()), route(series, a, b.double()) + routed)


def test_gradcheck_of_the_routing() -> None:
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1 for shape in ((18, 2), (2,), (2,))]
    assert torch.autograd.gradcheck(route, [leaf.requires_grad_() for leaf in leaves])


def test_routing_in_the_model() -> None:
    inputs = published_inputs(4, 5, DEVICE)
    a, b = torch.ones(5, device=DEVICE), torch.full((5,), 2.0, device=DEVICE)
    q, storages = run(inputs)
    routed, same = run(inputs, routing=(a, b))
    torch.testing.assert_close(routed, route(q, a, b))
    assert torch.equal(same, storages)
    with pytest.raises(ValueError) as caught:
        run(inputs, routing=(a, b[:4]))
    assert str(caught.value) == "route: b is [4]; it must be [5]"


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


def test_launch_config() -> None:
    assert launch_config(1024, 1461) == LaunchConfig(block=32, num_warps=1, days=4, ahead=2)
    assert launch_config(1024, 1461, 64, training=True) == LaunchConfig(block=64, num_warps=1, days=3, ahead=2)
    assert launch_config(65536, 1461, training=True, backward=True).ahead == 1
    assert launch_config(1, 2).days == 2


@pytest.mark.parametrize(("days", "spacing", "count"), [(1461, 3, 487), (1460, 3, 488), (2, 3, 2), (7, 4, 4)])
def test_checkpoints(days: int, spacing: int, count: int) -> None:
    assert checkpoints(days, spacing) == count


def test_bytes() -> None:
    assert bytes_moved(days=10, basins=3) == 4 * 3 * (4 * 10 + 14 + 5 + 5)
    # Soil moisture of ten days, four storages of three chunks and of the day left.
    assert saved_bytes(days=10, basins=3) == 4 * 3 * (10 + 4 * 4)
    assert bytes_moved_backward(days=10, basins=3) == 4 * 3 * (3 * 10 + 14 + 14 + 5 + 10 + 16)
    # The largest series of the published benchmark: inputs, discharge, what is kept, and the gradients.
    days, basins = 1461, 1024
    assert 4 * basins * (4 * days + 2 * 14 + 2 * 5) + saved_bytes(days, basins) <= 45e6
