"""Is a training step of HBV run and timed in its two parts?"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from perf_kernels.hbv.inputs import published_inputs
from perf_workloads.hbv import Step, drivers, eager, expected_s, step, warm_up


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


#: Seconds that each part worked, as it saw it itself.
WORKED_S: dict[str, float] = {}


class Slow(torch.autograd.Function):
    """Works for 20 ms forward and 60 ms back."""

    @staticmethod
    def forward(ctx: object, parameters: torch.Tensor) -> torch.Tensor:
        work("forward", 0.02)
        return parameters.clone()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        work("backward", 0.06)
        return gradient


def work(part: str, seconds: float) -> None:
    """Work for so many seconds, and tell how many it were: a hypervisor may add some that nobody asked for."""
    begin = time.thread_time()
    while time.thread_time() < begin + seconds:
        pass
    WORKED_S[part] = time.thread_time() - begin


def test_parts_are_timed_apart() -> None:
    call = step(lambda *inputs: (Slow.apply(inputs[3]), inputs[4]), published_inputs(2, 4))
    # What a first call makes once is nobody's work.
    call()
    taken = call()
    # Seconds of work, however busy the machine is, and less of everything else than a part of either.
    assert WORKED_S["forward"] <= taken.forward_s < WORKED_S["forward"] + 0.015
    assert WORKED_S["backward"] <= taken.backward_s < WORKED_S["backward"] + 0.015


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


@pytest.mark.parametrize(("days", "expected"), [(200, 6.0), (10, 0.3), (5, 0.3)])
def test_a_step_is_expected_to_take_as_long_for_every_day(
    monkeypatch: pytest.MonkeyPatch, days: int, expected: float
) -> None:
    seen = []

    def step_of(model: object, inputs: list[torch.Tensor]) -> Callable[[], Step]:
        seen.append([len(tensor) for tensor in inputs])
        return lambda: Step(None, None, forward_s=0.1, backward_s=0.2)

    monkeypatch.setattr(drivers, "step", step_of)
    assert expected_s(eager(), published_inputs(days, 4)) == pytest.approx(expected)
    assert seen == [[min(days, 10)] * 3 + [14, 5]]
