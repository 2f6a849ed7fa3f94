"""Are tensors found that a call carries with it? On pretended devices: what counts is where they are looked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from perfgate.measure import held  # noqa: E402  # imports torch


@pytest.fixture(autouse=True)
def _meta_is_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_device(value: Any) -> bool:
        tensors = [value] if isinstance(value, torch.Tensor) else [*value.parameters(), *value.buffers()]
        return any(tensor.is_meta for tensor in tensors)

    monkeypatch.setattr(held, "_on_device", on_device)


def linear(device: str = "meta") -> Any:
    return torch.nn.Linear(2, 2, device=device)


def closing_over(value: Any) -> Callable[[Any], Any]:
    return lambda x: (x, value)


def with_default(x: Any, weight: Any = torch.ones(1, device="meta")) -> Any:  # noqa: B008  # that is the point
    return x, weight


@pytest.mark.parametrize(
    "call",
    [
        linear(),
        linear().forward,
        torch.ones(1, device="meta").add,
        closing_over(linear()),
        closing_over({"layers": [linear()]}),
        closing_over(closing_over(torch.ones(1, device="meta"))),
        functools.partial(torch.nn.functional.linear, weight=torch.ones(1, 1, device="meta")),
        functools.wraps(linear().forward)(lambda x: x),
        with_default,
    ],
    ids=["module", "method", "tensor", "closure", "nested", "function", "partial", "wrapper", "default"],
)
def test_found(call: Callable[..., Any]) -> None:
    assert held.holds_tensors(call, (torch.ones(1),), {})


def test_a_module_among_the_arguments_is_found() -> None:
    assert held.holds_tensors(lambda module, x: module(x), (linear(), torch.ones(1)), {})
    assert held.holds_tensors(lambda module, x: module(x), (torch.ones(1),), {"module": linear()})


@pytest.mark.parametrize(
    "call",
    [torch.add, closing_over(3), closing_over(linear("cpu")), functools.partial(torch.add, 1)],
    ids=["function", "number", "other device", "partial"],
)
def test_nothing_to_find(call: Callable[..., Any]) -> None:
    assert not held.holds_tensors(call, (torch.ones(1, device="meta"),), {"other": torch.ones(1, device="meta")})


def test_a_function_that_closes_over_itself_ends() -> None:
    def again(x: Any) -> Any:
        return again(x)

    assert not held.holds_tensors(again, (), {})
