"""Do all ways of running HBV in torch give the reference's discharge, storages and gradients?"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch

from perf_kernels.hbv import hbv_reference, route
from perf_kernels.hbv.inputs import Inputs, published_inputs, wide_inputs
from perf_kernels.hbv.published import Published
from perf_workloads.hbv import Model, a_day_at_a_time, basins_first, compiled, eager, routed, torchscript
from perf_workloads.hbv.day import ramp

#: What a backend of torch.compile makes of the graph plays no part here.
MODELS: dict[str, Callable[..., Model]] = {
    "eager": eager,
    "torchscript": torchscript,
    "compile": functools.partial(compiled, backend="aot_eager"),
    "daily": lambda *, smooth: a_day_at_a_time(eager(smooth=smooth)),
}
every_model = pytest.mark.parametrize("name", MODELS)
both_forms = pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])


def gradients(model: Model, inputs: Inputs) -> tuple[torch.Tensor, ...]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    q, storages = model(*leaves)
    return torch.autograd.grad(q.square().sum() + storages.sum(), leaves)


@every_model
@both_forms
@pytest.mark.parametrize("draw", [published_inputs, wide_inputs])
def test_equals_the_reference(name: str, smooth: bool, draw: Callable[..., Inputs]) -> None:
    inputs = draw(6, 16).to(torch.float64)
    expected = hbv_reference(*inputs[:4], initial=inputs.initial, smooth=smooth)
    for got, want in zip(MODELS[name](smooth=smooth)(*inputs), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@every_model
@both_forms
def test_gradients_are_those_of_the_reference(name: str, smooth: bool) -> None:
    inputs = published_inputs(4, 8).to(torch.float64)

    def reference(*leaves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return hbv_reference(*leaves[:4], initial=leaves[4], smooth=smooth)

    for got, want in zip(gradients(MODELS[name](smooth=smooth), inputs), gradients(reference, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@every_model
def test_one_form_does_not_pass_for_the_other(name: str) -> None:
    published = Published((40,), (32,))
    inputs = published.inputs(40, 32, "cpu")
    discharge, _ = MODELS[name](smooth=True)(*inputs)
    published.check_discharge(discharge, smooth=True)
    with pytest.raises(AssertionError, match="times as far from the reference as rounding explains"):
        published.check_discharge(discharge, smooth=False)


def test_the_smooth_ramp_dips() -> None:
    x = torch.linspace(-2, 2, 400001, dtype=torch.float64)
    assert ramp(x, True).min().item() == pytest.approx(-0.0278, abs=5e-5)
    assert ramp(x, False).min().item() == 0


def test_days_one_by_one_carry_the_storages() -> None:
    inputs = published_inputs(5, 8)
    called = []

    def model(*arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        called.append(arguments[0].shape)
        return eager()(*arguments)

    q, storages = a_day_at_a_time(model)(*inputs)
    whole, last = eager()(*inputs)
    assert called == [(1, 8)] * 5
    assert torch.equal(q, whole)
    assert torch.equal(storages, last)


def test_routing_leaves_the_storages_alone() -> None:
    inputs = published_inputs(5, 8)
    a, b = torch.ones(8), torch.full((8,), 2.0)
    q, storages = routed(eager(), lambda q: route(q, a, b))(*inputs)
    plain, last = eager()(*inputs)
    assert torch.equal(q, route(plain, a, b))
    assert torch.equal(storages, last)


def test_basins_first_is_another_layout_of_the_same() -> None:
    inputs = published_inputs(5, 8)
    other = basins_first(inputs)
    assert all(torch.equal(one, two) for one, two in zip(inputs, other, strict=True))
    assert [tensor.stride() for tensor in other[:3]] == [(1, 5)] * 3
    assert other[3] is inputs[3]
