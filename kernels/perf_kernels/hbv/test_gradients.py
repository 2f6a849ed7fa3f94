"""Are the gradients of the kernels those that autograd gives of the reference?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.hbv import PARAMETERS, STATES, LaunchConfig, hbv, hbv_reference
from perf_kernels.hbv.inputs import RANGES, Inputs, published_inputs, wide_inputs
from perf_kernels.target import DEVICE_TYPE as DEVICE
from perf_kernels.undeclared_tests import few_days, some_gradients, without_ptx

pytestmark = without_ptx

examples = settings.get_profile("perf_kernels")
few_examples = settings(examples, max_examples=max(examples.max_examples // 4, 5))
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
both_models = pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])


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


@few_days
@few_examples
@given(st.integers(1, 9), st.integers(16, 32), st.booleans(), configs, st.integers(0, 2**31 - 1))
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


@some_gradients
@few_days
@pytest.mark.parametrize("case", KINKS)
def test_kinks_split_as_in_torch(case: str) -> None:
    forcings, parameters, storages = KINKS[case]
    series = torch.tensor(forcings, dtype=torch.float32).t()[:, :, None]
    initial = torch.tensor(storages, dtype=torch.float32)[:, None]
    inputs = Inputs(*series, a_basin(**parameters), initial).to(DEVICE)
    got = gradients(hbv, inputs)
    for name, one, other in zip(Inputs._fields, got, gradients(hbv_reference, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@some_gradients
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


@some_gradients
def test_gradients_of_a_series_in_two_parts() -> None:
    inputs = published_inputs(7, 32, DEVICE)
    parameters = inputs.parameters.requires_grad_()
    (whole,) = torch.autograd.grad(hbv(*inputs[:3], parameters)[0].sum(), parameters)
    first, middle = hbv(*(tensor[:3] for tensor in inputs[:3]), parameters)
    second, _ = hbv(*(tensor[3:] for tensor in inputs[:3]), parameters, initial=middle)
    (parts,) = torch.autograd.grad(first.sum() + second.sum(), parameters)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("days", "basins"), [(0, 3), (4, 0), (0, 0)])
def test_gradients_of_an_empty_series(days: int, basins: int) -> None:
    got = gradients(hbv, published_inputs(days, basins, DEVICE))
    assert torch.equal(got[3].cpu(), torch.zeros(len(PARAMETERS), basins))
    assert got[4].shape == (len(STATES), basins)


@few_days
def test_nothing_is_kept_without_gradients() -> None:
    inputs = published_inputs(2, 32, DEVICE)
    inputs.parameters.requires_grad_()
    with torch.no_grad():
        q, storages = hbv(*inputs[:4], initial=inputs.initial)
    assert not q.requires_grad
    assert not storages.requires_grad
