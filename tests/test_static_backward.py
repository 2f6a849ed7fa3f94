"""Do gradients without torch's engine equal its own, and are kernels of a backward pass found without a GPU?"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perfgate.errors import PerfgateError
from perfgate.static.answers import Question
from perfgate.static.pool import Pool

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
backward = pytest.importorskip("perfgate.static.backward")
checkpoint = pytest.importorskip("torch.utils.checkpoint").checkpoint

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


class Step(torch.autograd.Function):  # type: ignore[misc]
    """Notes its name, and what gradient came."""

    @staticmethod
    def forward(ctx: Any, x: Any, name: str, ran: list[tuple[str, Any]], none: bool = False) -> Any:
        ctx.set_materialize_grads(not none)
        ctx.name, ctx.ran = name, ran
        return x * 2

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        ctx.ran.append((ctx.name, dy if dy is None else dy.tolist()))
        return None if dy is None else dy * 2, None, None, None


class Nothing(torch.autograd.Function):
    """Gives None as the gradient of its argument."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(ctx: Any, dy: Any) -> None:
        return None


class Indices(torch.autograd.Function):
    """Gives what has no gradient beside what has one: integers, a tensor that is marked so, a number, None."""

    @staticmethod
    def forward(ctx: Any, x: Any, seen: list[Any]) -> tuple[Any, ...]:
        marked = x.double()
        ctx.mark_non_differentiable(marked)
        ctx.seen = seen
        return x.argmax(1), x * 2, 7, marked, None, x.half()

    @staticmethod
    def backward(ctx: Any, *dys: Any) -> Any:
        ctx.seen.extend(dy if dy is None else (dy.dtype, tuple(dy.shape), float(dy.sum())) for dy in dys)
        return dys[1] * 2, None


GRAPHS: dict[str, Callable[[Any, Any], Any]] = {
    "product": lambda x, y: (x @ y.t()).relu().sum(),
    "shared": lambda x, y: (x * y + x.sin() * x).mean(),
    "parts": lambda x, y: Parts.apply(2.5, x, None, torch.full_like(x, 3), y)[0].sum(),
    "both parts": lambda x, y: sum(each.sum() for each in Parts.apply(2.5, x, None, torch.ones(()), x * y)),
    "absent": lambda x, y: (Absent.apply(x)[0] * y).sum(),
    "absent too": lambda x, y: (Absent.apply(x)[1] * torch.stack(Absent.apply(y))).sum(),
    "wide": lambda x, y: (Wide.apply(x * 2) * y).sum(),
    "none": lambda x, y: Nothing.apply(Step.apply(x, "", []) * y).sum(),
    "indices": lambda x, y: (Indices.apply(x, [])[1] * y).sum(),
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
    ran: list[tuple[str, Any]] = []
    x, y = inputs()
    inner = Step.apply(x, "before", ran)
    with backward.in_python():
        torch.autograd.grad(Step.apply(inner * Step.apply(y, "beside", ran), "after", ran).sum(), inner)
    assert [name for name, _ in ran] == ["after"]


def test_an_input_that_is_not_used() -> None:
    x, y = inputs()
    with (
        backward.in_python(),
        pytest.raises(
            RuntimeError, match=r"^One of the differentiated Tensors appears to not have been used in the graph"
        ),
    ):
        torch.autograd.grad(x.sum(), (x, y))


def here_and_in_the_engine(graph: Callable[[list[Any]], object]) -> tuple[list[Any], list[Any]]:
    """Run what notes something here and in torch's engine; give what was noted."""
    expected: list[Any] = []
    found: list[Any] = []
    graph(expected)
    with backward.in_python():
        graph(found)
    return found, expected


@pytest.mark.parametrize("none", [False, True])
@pytest.mark.parametrize("between", [lambda x: x, lambda x: x * 3])
def test_a_step_that_only_none_reaches_runs(none: bool, between: Callable[[Any], Any]) -> None:
    x, _ = inputs()
    found, expected = here_and_in_the_engine(
        lambda ran: Nothing.apply(between(Step.apply(x, "step", ran, none))).sum().backward()
    )
    assert found == expected == [("step", None if none else [[0.0] * 5] * 4)]


def test_outputs_without_gradients_have_zeros_of_their_own() -> None:
    x, _ = inputs()
    found, expected = here_and_in_the_engine(lambda seen: Indices.apply(x, seen)[1].sum().backward())
    assert found == expected
    assert found[0] == (torch.int64, (4,), 0)
    assert found[2:] == [None, (torch.float64, (4, 5), 0), None, (torch.float16, (4, 5), 0)]


def test_unused_outputs_of_a_function_called_before_are_refused() -> None:
    x, _ = inputs()
    y = Parts.apply(2.5, x, None, torch.ones(()), x)[0].sum()
    with backward.in_python(), pytest.raises(PerfgateError, match=r"^PartsBackward was made before the launch\n"):
        y.backward()


def test_steps_run_in_the_order_of_the_engine() -> None:
    x, _ = inputs()

    def graph(ran: list[Any]) -> None:
        first, second = Step.apply(x, "1", ran), Step.apply(x, "2", ran)
        third, fourth = Step.apply(first, "3", ran), Step.apply(second, "4", ran)
        (third + fourth + Step.apply(first, "5", ran)).sum().backward()

    found, expected = here_and_in_the_engine(graph)
    assert found == expected
    assert [name for name, _ in found] == ["5", "4", "3", "2", "1"]


def test_of_several_roots_the_one_made_last_runs_first() -> None:
    x, _ = inputs()

    def graph(ran: list[Any]) -> None:
        first, second = Step.apply(x, "1", ran), Step.apply(x, "2", ran)
        torch.autograd.backward([second, first], [torch.ones_like(x)] * 2)

    found, expected = here_and_in_the_engine(graph)
    assert found == expected
    assert [name for name, _ in found] == ["2", "1"]


def test_a_checkpoint_is_computed_again_once() -> None:
    x, _ = inputs()

    def graph(calls: list[Any]) -> None:
        def block(x: Any) -> Any:
            calls.append(x.shape)
            return (x.sin().exp() * x).cos()

        checkpoint(block, x, use_reentrant=False).sum().backward()
        assert torch._C._current_graph_task_id() == -1

    found, expected = here_and_in_the_engine(graph)
    assert found == expected == [x.shape] * 2


@pytest.mark.parametrize(
    "ask", [lambda loss, x: loss.backward(inputs=[x]), lambda loss, x: torch.autograd.grad(loss, x)]
)
def test_a_reentrant_checkpoint_takes_no_inputs(ask: Callable[[Any, Any], object]) -> None:
    x, _ = inputs()
    text = r"^When use_reentrant=True, torch\.utils\.checkpoint is incompatible with \.grad\(\) or passing an `inputs`"
    with pytest.raises(RuntimeError, match=text):
        ask(checkpoint(torch.sin, x, use_reentrant=True).sum(), x)
    with backward.in_python():
        checkpoint(torch.sin, x, use_reentrant=True).sum().backward()
        torch.testing.assert_close(x.grad, x.cos())
        with pytest.raises(RuntimeError, match=text):
            ask(checkpoint(torch.sin, x, use_reentrant=True).sum(), x)


def test_what_needs_no_gradient_has_no_backward_pass() -> None:
    x, _ = inputs()
    text = r"^element 1 of tensors does not require grad and does not have a grad_fn$"
    with pytest.raises(RuntimeError, match=text):
        torch.autograd.backward([x.sum(), x.detach().sum()])
    with backward.in_python(), pytest.raises(RuntimeError, match=text):
        torch.autograd.backward([x.sum(), x.detach().sum()])


class Given(torch.autograd.Function):
    """Gives as gradients what it is told to."""

    @staticmethod
    def forward(ctx: Any, x: Any, told: Callable[[Any], Any]) -> Any:
        ctx.told = told
        return x * 2

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        return ctx.told(dy)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (
            lambda dy: dy,
            "function GivenBackward returned an incorrect number of gradients (expected 2, got 1)",
        ),
        (
            lambda dy: [dy, None],
            "function GivenBackward returned an incorrect number of gradients (expected 2, got 1)",
        ),
        (
            lambda dy: (dy, None, dy),
            "function GivenBackward returned an incorrect number of gradients (expected 2, got 3)",
        ),
        (
            lambda dy: (dy, dy),
            "function GivenBackward returned a gradient different than None at position 2, but the corresponding "
            "forward input was not a Variable",
        ),
        (
            lambda dy: (dy[:3], None),
            "Function GivenBackward returned an invalid gradient at index 0 - got [3, 5] but expected shape compatible "
            "with [4, 5]",
        ),
        (
            lambda dy: (dy.to("meta"), None),
            "Function GivenBackward returned an invalid gradient at index 0 - expected device cpu but got meta",
        ),
        (lambda dy: (3, None), "expected Variable or None (got int)"),
    ],
)
def test_what_is_no_gradient_is_refused_as_by_the_engine(told: Callable[[Any], Any], text: str) -> None:
    x, _ = inputs()
    with pytest.raises(RuntimeError, match=re.escape(text)):
        Given.apply(x, told).sum().backward()
    with backward.in_python(), pytest.raises(RuntimeError, match=re.escape(text)):
        Given.apply(x, told).sum().backward()


def test_none_may_follow_the_gradients() -> None:
    x, _ = inputs()
    with backward.in_python():
        Given.apply(x, lambda dy: (dy * 3, None, None)).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 3))


@pytest.mark.parametrize("graph", [lambda x: x.exp(), lambda x: Parts.apply(2.0, x, None, torch.ones(()), x)[0]])
def test_a_graph_runs_once_unless_it_is_retained(graph: Callable[[Any], Any]) -> None:
    x, _ = inputs()
    with backward.in_python():
        y = graph(x).sum()
        y.backward(retain_graph=True)
        y.backward()
        with pytest.raises(RuntimeError, match=r"^Trying to backward through the graph a second time \(or directly"):
            y.backward()


def test_a_graph_that_saves_nothing_runs_again() -> None:
    x, _ = inputs()
    with backward.in_python():
        y = Step.apply(x, "", []).sum()
        y.backward()
        y.backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 4))


KERNEL = "declare the launch of the kernel of the backward pass by itself, without .backward()"
MODULE_HOOK = "a hook on the backward pass of a module"
GRADIENT = f"torch.autograd.grad(loss, y) gives the gradient of y, or {KERNEL}"


@pytest.mark.parametrize(
    ("ask", "what", "hint"),
    [
        (lambda y: y.retain_grad(), "retain_grad()", GRADIENT),
        (lambda y: y.register_hook(lambda dy: dy), "a hook on a tensor (register_hook)", KERNEL),
        (
            lambda y: torch.autograd.graph.register_multi_grad_hook([y], lambda dys: None),
            "a hook on tensors (register_multi_grad_hook)",
            KERNEL,
        ),
        (lambda y: y.sum().backward(inputs=[y]), "backward(inputs=...) of what is no leaf", GRADIENT),
        (lambda y: hooked_module("register_full_backward_hook")(y), MODULE_HOOK, KERNEL),
        (lambda y: hooked_module("register_backward_hook")(y * 2), MODULE_HOOK, KERNEL),
    ],
)
def test_what_only_the_engine_calls_is_refused(ask: Callable[[Any], object], what: str, hint: str) -> None:
    x, _ = inputs()
    with backward.in_python(), pytest.raises(PerfgateError) as refused:
        ask(x * 2)
    assert str(refused.value).splitlines() == [
        f"{what} is not run without a GPU",
        "Only torch's own engine calls it, which has no device here: its kernels would be missing from the launch.",
        f"hint: {hint}",
    ]
    y = x * 2
    y.retain_grad()
    y.sum().backward()
    torch.testing.assert_close(y.grad, torch.ones_like(y))


def hooked_module(register: str) -> Any:
    module = torch.nn.Identity()
    getattr(module, register)(lambda module, dxs, dys: None)
    return module


def test_a_hook_that_a_leaf_had_before_is_refused() -> None:
    x, _ = inputs()
    x.register_hook(lambda dx: dx)
    with backward.in_python(), pytest.raises(PerfgateError, match=r"^a hook on a tensor \(register_hook\) is not run"):
        x.sum().backward()


def test_a_leaf_retains_its_gradient_and_tells_that_it_accumulated() -> None:
    x, _ = inputs()
    accumulated: list[Any] = []
    with backward.in_python():
        x.retain_grad()
        x.register_post_accumulate_grad_hook(accumulated.append)
        x.sum().backward()
    assert accumulated == [x]


def test_torch_is_as_it_was_after_a_step_that_failed() -> None:
    def patched() -> list[Any]:
        return [
            torch.autograd._engine_run_backward,
            torch.autograd.function.FunctionCtx.set_materialize_grads,
            "apply" in vars(torch.autograd.function._SingleLevelFunction),
            torch.Tensor.retain_grad,
            torch.Tensor.register_hook,
            torch.autograd.graph.register_multi_grad_hook,
            torch.utils.hooks.BackwardHook.setup_input_hook,
            torch.nn.Module._maybe_warn_non_full_backward_hook,
            torch.autograd._is_checkpoint_valid,
            torch._C._current_graph_task_id,
            torch.is_grad_enabled(),
        ]

    before = patched()
    x, _ = inputs()
    with pytest.raises(ZeroDivisionError), backward.in_python():
        Given.apply(x, lambda dy: 1 // 0).sum().backward()
    assert patched() == before


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
