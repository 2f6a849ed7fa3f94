"""Is a training step of HBV run and timed in its two parts?"""

from __future__ import annotations

import time

import pytest
import torch

from perf_kernels.hbv.inputs import published_inputs
from perf_workloads.hbv import eager, expected_s, step, warm_up


def test_a_step_gives_discharge_and_gradient() -> None:
    inputs = published_inputs(4, 8)
    taken = step(eager(), inputs)()
    parameters = inputs.parameters.clone().requires_grad_()
    q, _ = eager()(*inputs[:3], parameters, inputs.initial)
    (gradient,) = torch.autograd.grad(q.sum(), parameters)
    assert torch.equal(taken.discharge, q)
    assert not taken.discharge.requires_grad
    assert torch.equal(taken.gradient, gradient)
    assert not inputs.parameters.requires_grad


class Slow(torch.autograd.Function):
    """Works for 20 ms forward and 60 ms back."""

    @staticmethod
    def forward(ctx: object, parameters: torch.Tensor) -> torch.Tensor:
        work(0.02)
        return parameters.clone()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        work(0.06)
        return gradient


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_parts_are_timed_apart() -> None:
    call = step(lambda *inputs: (Slow.apply(inputs[3]), inputs[4]), published_inputs(2, 4))
    # What a first call makes once is nobody's work.
    call()
    taken = call()
    # Seconds of work, however busy the machine is.
    assert 0.02 <= taken.forward_s < 0.04
    assert 0.06 <= taken.backward_s < 0.08


def test_waiting_is_no_work() -> None:
    def model(*inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(0.05)
        return inputs[3] * 1, inputs[4]

    call = step(model, published_inputs(2, 4))
    call()
    assert call().forward_s < 0.03


@pytest.mark.parametrize(("days", "seen"), [(25, 10), (3, 3)])
def test_warming_up_takes_a_few_days(days: int, seen: int) -> None:
    called = []

    def model(*inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        called.append([tuple(tensor.shape) for tensor in inputs])
        return eager()(*inputs)

    warm_up(model, published_inputs(days, 8), calls=2)
    assert called == [[(seen, 8)] * 3 + [(14, 8), (5, 8)]] * 2


def test_a_step_is_expected_to_take_as_long_for_every_day() -> None:
    days = []

    def model(*inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        days.append(len(inputs[0]))
        work(0.002 * len(inputs[0]))
        return inputs[3] * 1, inputs[4]

    inputs = published_inputs(200, 4)
    warm_up(model, inputs, calls=1)
    assert 0.4 <= expected_s(model, inputs) < 0.8
    assert days == [10, 10]
