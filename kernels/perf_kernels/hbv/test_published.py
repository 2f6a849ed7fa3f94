"""Do the checks on the published inputs pass what is right, and nothing that is wrong?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from perf_kernels.hbv import PARAMETERS, hbv, hbv_reference
from perf_kernels.hbv.inputs import Inputs
from perf_kernels.hbv.published import GRADIENT_ERROR, Published
from perf_kernels.target import DEVICE_TYPE as DEVICE
from perf_kernels.undeclared_tests import without_ptx

pytestmark = without_ptx

DAYS, BASINS = 40, 48
both_models = pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])


@pytest.fixture(scope="module")
def published() -> Published:
    return Published((20, DAYS), (32, BASINS))


def discharge_of(inputs: Inputs, *, smooth: bool = False) -> torch.Tensor:
    return hbv_reference(*inputs[:4], initial=inputs.initial, smooth=smooth)[0]


def gradient_of(model: Callable[..., tuple[torch.Tensor, torch.Tensor]], inputs: Inputs) -> torch.Tensor:
    parameters = inputs.parameters.clone().requires_grad_()
    return torch.autograd.grad(model(*inputs[:3], parameters, initial=inputs.initial)[0].sum(), parameters)[0]


def test_sizes_are_parts_of_the_largest(published: Published) -> None:
    small, large = published.inputs(20, 32, "cpu"), published.inputs(DAYS, BASINS, "cpu")
    for one, other in zip(small[:3], large[:3], strict=True):
        assert torch.equal(one, other[:20, :32])
    for one, other in zip(small[3:], large[3:], strict=True):
        assert torch.equal(one, other[:, :32])
    assert all(tensor.is_contiguous() for tensor in small)


@both_models
@pytest.mark.parametrize("days", [20, DAYS])
@pytest.mark.parametrize("basins", [32, BASINS])
def test_plain_torch_is_right_in_every_size(published: Published, days: int, basins: int, smooth: bool) -> None:
    discharge = discharge_of(published.inputs(days, basins, "cpu"), smooth=smooth)
    published.check_discharge(discharge, smooth=smooth)
    # Had rounding room to spare, damage would hide in it.
    assert published.discharge_error(discharge, smooth=smooth) > 0.03


def test_the_kernels_are_right(published: Published) -> None:
    inputs = published.inputs(20, 32, DEVICE)
    published.check_discharge(hbv(*inputs[:4], initial=inputs.initial)[0], smooth=False)
    published.check_gradients(gradient_of(hbv, inputs), 20, smooth=False)


def a_wrong_parameter(inputs: Inputs) -> torch.Tensor:
    parameters = inputs.parameters.clone()
    parameters[PARAMETERS.index("K2")] *= 1 + 1e-3
    return discharge_of(inputs._replace(parameters=parameters))


DAMAGE: dict[str, Callable[[Inputs], torch.Tensor]] = {
    "the other model": lambda inputs: discharge_of(inputs, smooth=True),
    "a day late": lambda inputs: discharge_of(inputs).roll(1, dims=0),
    "basins in another order": lambda inputs: discharge_of(inputs).flip(1),
    "a parameter off by a thousandth": a_wrong_parameter,
    "half precision": lambda inputs: discharge_of(inputs).half().float(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_wrong_discharge_is_found(published: Published, damage: str) -> None:
    wrong = DAMAGE[damage](published.inputs(DAYS, BASINS, "cpu"))
    with pytest.raises(AssertionError, match="times as far from the reference as rounding explains"):
        published.check_discharge(wrong, smooth=False)


def test_impossible_discharge_is_found_in_any_basin(published: Published) -> None:
    discharge = discharge_of(published.inputs(DAYS, BASINS, "cpu"))
    # Basin 1 is not among those compared with the reference.
    discharge[5, 1] = -1
    with pytest.raises(AssertionError) as caught:
        published.check_discharge(discharge, smooth=False)
    assert str(caught.value) == "the discharge falls to -1 mm a day"
    discharge[5, 1] = float("nan")
    with pytest.raises(AssertionError) as caught:
        published.check_discharge(discharge, smooth=False)
    assert str(caught.value) == "the discharge is not finite everywhere"


def test_wrong_gradients_are_found(published: Published) -> None:
    gradient = gradient_of(hbv_reference, published.inputs(DAYS, BASINS, "cpu"))
    published.check_gradients(gradient, DAYS, smooth=False)
    # One basin may be on the other side of a kink; not two.
    scale = gradient.abs().amax(dim=1)
    gradient[3, 0] += 2 * GRADIENT_ERROR * scale[3]
    published.check_gradients(gradient, DAYS, smooth=False)
    gradient[7, -1] = float("nan")
    with pytest.raises(AssertionError) as caught:
        published.check_gradients(gradient, DAYS, smooth=False)
    assert str(caught.value).startswith("the gradients of 2 of 16 basins are wrong, by up to ")
