"""Do the kernels give the discharge and the storages that the reference gives, however they are launched?"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.hbv import STATES, LaunchConfig, hbv, hbv_reference
from perf_kernels.hbv.inputs import Inputs, published_inputs, wide_inputs
from perf_kernels.hbv.reference import INITIAL_STATE
from perf_kernels.target import DEVICE_TYPE as DEVICE
from perf_kernels.undeclared_tests import few_days, without_ptx

pytestmark = without_ptx

examples = settings.get_profile("perf_kernels")
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


@few_days
@examples
@given(
    st.sampled_from(draws), st.integers(0, 11), st.integers(1, 40), st.booleans(), configs, st.integers(0, 2**31 - 1)
)
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


@both_models
def test_a_year_in_fp32(smooth: bool) -> None:
    days = 365 if DEVICE == "cuda" else 120
    inputs = published_inputs(days, 32, DEVICE)
    q, _ = run(inputs, smooth=smooth)
    exact, _ = reference(inputs.to(torch.float64), smooth=smooth)
    assert exact.max() > 5
    assert (q - exact).abs().max() <= 2.6e-5 * exact.max() / 7.1


@few_days
def test_launches_agree() -> None:
    """Chunks, blocks and warps change no bit of the discharge."""
    inputs = published_inputs(7, 40, DEVICE)
    expected, _ = run(inputs)
    for days, ahead in itertools.product((1, 2, 7, 9), (1, 3)):
        q, _ = run(inputs, config=LaunchConfig(block=64, num_warps=2, days=days, ahead=ahead))
        assert torch.equal(q, expected)


@few_days
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
    for one, other in zip(run(inputs), reference(inputs, smooth=False), strict=True):
        assert torch.equal(one, other)
