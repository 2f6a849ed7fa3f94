"""Do gradients without torch's engine equal its own, and are kernels of a backward pass found without a GPU?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perfgate.static.answers import Question
from perfgate.static.pool import Pool

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
backward = pytest.importorskip("perfgate.static.backward")

PLACE = "backward_launches"
LAUNCHES = """
import torch
import triton
import triton.language as tl


@triton.jit
def double(x_ptr, y_ptr, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets) * 2)


@triton.jit
def double_gradient(dy_ptr, dx_ptr, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    tl.store(dx_ptr + offsets, tl.load(dy_ptr + offsets) * 2)


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, tile):
        y = torch.empty_like(x)
        double[(1,)](x, y, tile)
        return y

    @staticmethod
    def backward(ctx, dy):
        dx = torch.empty_like(dy)
        double_gradient[(1,)](dy, dx, 64)
        return dx, None


def train():
    x = torch.empty(64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        Double.apply(x * 3, 64).float().square().mean().backward()
    assert (x.grad.shape, x.grad.dtype, x.grad.device.type) == (x.shape, x.dtype, "cuda")


def gradient():
    x = torch.empty(64, device="cuda", requires_grad=True)
    (dx,) = torch.autograd.grad(Double.apply(x, 64), x, torch.empty(64, device="cuda"))
    assert dx.device.type == "cuda"


LAUNCHES = {"train": train, "gradient": gradient}
"""


class Parts(torch.autograd.Function):
    """Takes what is no tensor and a tensor without gradient, too; gives two results and is used for one."""

    @staticmethod
    def forward(ctx: Any, factor: float, x: Any, flag: None, constant: Any, y: Any) -> tuple[Any, Any]:
        ctx.save_for_backward(x, constant)
        ctx.factor = factor
        return x * constant * factor, y.exp()

    @staticmethod
    def backward(ctx: Any, first: Any, second: Any) -> tuple[Any, ...]:
        _, constant = ctx.saved_tensors
        return None, first * constant * ctx.factor, None, None, second + 1


class Absent(torch.autograd.Function):
    """Is told with None that no gradient came for a result."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> tuple[Any, Any]:
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    @staticmethod
    def backward(ctx: Any, first: Any, second: Any) -> Any:
        if first is None or second is None:
            return second * 7 if first is None else first * 5
        return first + second


class Wide(torch.autograd.Function):
    """Gives a gradient of another type and shape than its input's: the engine converts and sums it."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.expand(3, *x.shape).clone()

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        return dy.double()


GRAPHS: dict[str, Callable[[Any, Any], Any]] = {
    "product": lambda x, y: (x @ y.t()).relu().sum(),
    "shared": lambda x, y: (x * y + x.sin() * x).mean(),
    "parts": lambda x, y: Parts.apply(2.5, x, None, torch.full_like(x, 3), y)[0].sum(),
    "both parts": lambda x, y: sum(each.sum() for each in Parts.apply(2.5, x, None, torch.ones(()), x * y)),
    "absent": lambda x, y: (Absent.apply(x)[0] * y).sum(),
    "absent too": lambda x, y: (Absent.apply(x)[1] * torch.stack(Absent.apply(y))).sum(),
    "wide": lambda x, y: (Wide.apply(x * 2) * y).sum(),
    "norm": lambda x, y: torch.nn.functional.layer_norm(x, (5,), y[0]).square().sum(),
    "pieces": lambda x, y: (x.split(2)[1].sum() + torch.stack([x, y]).unbind()[1].cumsum(0).sum()) * y[1, 1],
}


def inputs() -> tuple[Any, Any]:
    torch.manual_seed(1)
    return torch.randn(4, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_are_those_of_the_engine(name: str) -> None:
    expected = inputs()
    GRAPHS[name](*expected).backward()
    x, y = inputs()
    with backward.in_python():
        GRAPHS[name](x, y).backward()
    assert backward._run is not torch.autograd._engine_run_backward
    for found, wanted in ((x, expected[0]), (y, expected[1])):
        torch.testing.assert_close(found.grad, wanted.grad)


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_that_are_given_back_are_those_of_the_engine(name: str) -> None:
    x, y = inputs()
    inner = x * 1.5
    wanted = torch.autograd.grad(GRAPHS[name](inner, y), (inner, x, y), allow_unused=True)
    inner = x * 1.5
    with backward.in_python():
        found = torch.autograd.grad(GRAPHS[name](inner, y), (inner, x, y), allow_unused=True)
    torch.testing.assert_close(found, wanted)
    assert (x.grad, y.grad) == (None, None)


def test_gradients_of_gradients() -> None:
    x, _ = inputs()
    with backward.in_python():
        (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, 6 * x.detach())


def test_only_the_leaves_that_are_named_accumulate() -> None:
    x, y = inputs()
    with backward.in_python():
        (x * y).sum().backward(inputs=[y])
    assert x.grad is None
    torch.testing.assert_close(y.grad, x.detach())


def test_steps_that_lead_to_no_wanted_gradient_do_not_run() -> None:
    ran: list[str] = []

    class Step(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any, name: str) -> Any:
            ctx.name = name
            return x * 2

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            ran.append(ctx.name)
            return dy * 2, None

    x, y = inputs()
    inner = Step.apply(x, "before")
    with backward.in_python():
        torch.autograd.grad(Step.apply(inner * Step.apply(y, "beside"), "after").sum(), inner)
    assert ran == ["after"]


def test_an_input_that_is_not_used() -> None:
    x, y = inputs()
    with (
        backward.in_python(),
        pytest.raises(
            RuntimeError, match=r"^One of the differentiated Tensors appears to not have been used in the graph"
        ),
    ):
        torch.autograd.grad(x.sum(), (x, y))


def test_kernels_of_a_backward_pass_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{PLACE}.py").write_text(LAUNCHES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    questions = [Question(PLACE, name, target) for name in ("train", "gradient") for target in ("sm90", "gfx942")]
    pool = Pool(1)
    try:
        pool.submit(questions)
        answers = [pool.ask(question) for question in questions]
    finally:
        pool.close()
    for answer in answers:
        assert (answer.status, answer.reason) == ("compiled", "")
        assert [kernel.name for kernel in answer.kernels] == ["double", "double_gradient"]
