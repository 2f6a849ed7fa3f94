"""Do the references agree with fla's, and does the wrapper call what it is told to call?"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from typing import Any

import pytest
import torch

from perf_kernels.gated_delta_rule import IMPLEMENTATIONS, chunked_reference, gated_delta_rule, recurrent_reference
from perf_kernels.gated_delta_rule.inputs import random_gated_heads
from perf_kernels.linear_attention import relative_rms
from perf_kernels.linear_attention.fla_tests import hide_fla, import_fla
from perf_kernels.linear_attention.inputs import random_state

FP64 = torch.float64


@pytest.fixture(scope="module")
def fla_naive() -> Any:
    return import_fla("fla.ops.gated_delta_rule.naive")


@pytest.mark.parametrize("tokens", [1, 64, 100])
def test_agrees_with_the_references_of_fla(fla_naive: Any, tokens: int) -> None:
    q, k, v, g, beta = random_gated_heads(2, tokens, 2, 8, 5, dtype=torch.float32, seed=3)
    q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (q, k))
    state = random_state(2, 2, 8, 5)
    theirs = {"initial_state": state, "output_final_state": True}
    # The two take beta and g in different orders: by name.
    for function in (fla_naive.naive_recurrent_gated_delta_rule, fla_naive.naive_chunk_gated_delta_rule):
        expected, expected_state = function(q=q, k=k, v=v, g=g, beta=beta, **theirs)
        for name in ("naive_chunk", "naive_recurrent"):
            result = gated_delta_rule(q, k, v, g, beta, implementation=name, **theirs)
            torch.testing.assert_close(result.output, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(result.final_state, expected_state, rtol=1e-4, atol=1e-5)


def test_orders_of_g_and_beta_differ_in_fla(fla_naive: Any) -> None:
    """Why the wrapper calls by name: by position one of the two would get the gates exchanged, without an error."""
    orders = [
        list(inspect.signature(function).parameters)[3:5]
        for function in (fla_naive.naive_recurrent_gated_delta_rule, fla_naive.naive_chunk_gated_delta_rule)
    ]
    assert orders == [["beta", "g"], ["g", "beta"]]


@pytest.mark.parametrize("name", ["fla_chunk", "fla_fused_recurrent"])
def test_calls_bind_to_the_functions_of_fla(fla_naive: Any, name: str) -> None:
    module = importlib.import_module("fla.ops.gated_delta_rule")
    function = getattr(module, f"{name.removeprefix('fla_')}_gated_delta_rule")
    names = ["q", "k", "v", "g", "beta", "scale", "initial_state", "output_final_state", "use_qk_l2norm_in_kernel"]
    assert set(names) <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", ["fla_chunk", "fla_fused_recurrent"])
def test_arguments_that_fla_gets(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from perf_kernels.gated_delta_rule import implementations

    seen: dict[str, Any] = {}

    def record(**arguments: Any) -> tuple[torch.Tensor, str]:
        seen.update(arguments)
        return arguments["v"].float(), "state"

    module = types.ModuleType("fla.ops.gated_delta_rule")
    setattr(module, f"{name.removeprefix('fla_')}_gated_delta_rule", record)
    monkeypatch.setitem(sys.modules, "fla.ops.gated_delta_rule", module)
    monkeypatch.setattr(implementations, "require_gpu", lambda *_: None)
    q, k, v, g, beta = random_gated_heads(1, 3, 1, 16)
    result = gated_delta_rule(q, k, v, g, beta, implementation=name, normalize_qk=True)
    assert (result.implementation, result.final_state, result.output.dtype) == (name, None, torch.bfloat16)
    assert all(seen.pop(key) is value for key, value in {"q": q, "k": k, "v": v, "g": g, "beta": beta}.items())
    assert seen == {
        "scale": 0.25,
        "initial_state": None,
        "output_final_state": False,
        "use_qk_l2norm_in_kernel": True,
    }


def test_default_is_reported() -> None:
    inputs = random_gated_heads(1, 3, 1, 16)
    result = gated_delta_rule(*inputs)
    assert (result.implementation, result.output.dtype) == ("naive_chunk", torch.bfloat16)


def test_fla_on_a_cpu() -> None:
    with pytest.raises(ValueError) as caught:
        gated_delta_rule(*random_gated_heads(1, 3, 1, 16), implementation="fla_chunk")
    assert str(caught.value) == (
        "gated_delta_rule: fla_chunk runs on a GPU, and q is on cpu\n"
        "hint: on a CPU choose naive_chunk or naive_recurrent"
    )


def test_fla_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from perf_kernels.gated_delta_rule import implementations

    monkeypatch.setattr(implementations, "require_gpu", lambda *_: None)
    hide_fla(monkeypatch)
    with pytest.raises(ModuleNotFoundError) as caught:
        gated_delta_rule(*random_gated_heads(1, 3, 1, 16), implementation="fla_chunk")
    assert str(caught.value) == (
        "gated_delta_rule: implementation 'fla_chunk' needs fla, and fla is not installed\n"
        "hint: pip install fla-core, or choose another implementation"
    )


def test_recurrent_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    from perf_kernels.gated_delta_rule import implementations

    monkeypatch.setattr(implementations, "require_gpu", lambda *_: None)
    q, *others = random_gated_heads(1, 3, 1, 16)
    with pytest.raises(ValueError) as caught:
        gated_delta_rule(q.requires_grad_(), *others, implementation="fla_fused_recurrent")
    assert str(caught.value) == (
        "gated_delta_rule: fla_fused_recurrent has no gradients\nhint: choose fla_chunk, or call it in torch.no_grad()"
    )


def test_wrong_arguments() -> None:
    q, k, v, g, beta = random_gated_heads(2, 3, 2, 16, 8, 4)
    wrong = [
        ({"implementation": "flash"}, f"implementation is 'flash'; it must be one of {', '.join(IMPLEMENTATIONS)}"),
        ({"v": v[:, :, :3]}, "v is [2, 3, 3, 8]; it must be [2, 3, a multiple of 2, any width]"),
        ({"g": g[:, :2]}, "g is [2, 2, 4] torch.float32 on cpu; it must be [2, 3, 4] on cpu"),
        ({"beta": beta[..., 0]}, "beta is [2, 3] torch.bfloat16 on cpu; it must be [2, 3, 4] on cpu"),
        (
            {"initial_state": torch.zeros(2, 2, 16, 8)},
            "initial_state is [2, 2, 16, 8] torch.float32 on cpu; it must be [2, 4, 16, 8] torch.float32 on cpu",
        ),
    ]
    for changed, message in wrong:
        with pytest.raises(ValueError) as caught:
            gated_delta_rule(**{"q": q, "k": k, "v": v, "g": g, "beta": beta, **changed})
        assert str(caught.value) == f"gated_delta_rule: {message}"


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["fla_chunk", "fla_fused_recurrent"])
@pytest.mark.parametrize("shape", [(2, 100, 2, 64, 64, 2), (1, 1000, 2, 128, 64, 4)], ids=str)
def test_fla_equals_the_reference(shape: tuple[int, ...], name: str) -> None:
    pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")
    batch, tokens, heads, keys, values, value_heads = shape
    inputs = random_gated_heads(batch, tokens, heads, keys, values, value_heads, device="cuda", seed=4)
    state = random_state(batch, value_heads, keys, values, "cuda")
    options = {"initial_state": state, "output_final_state": True, "normalize_qk": True}
    result = gated_delta_rule(*inputs, implementation=name, **options)
    expected, expected_state = recurrent_reference(*inputs, **options, dtype=FP64)
    assert relative_rms(result.output, expected) <= 0.005
    assert relative_rms(result.final_state, expected_state) <= 0.005


@pytest.mark.cuda
def test_gradients_of_fla() -> None:
    pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")
    inputs = [x.requires_grad_() for x in random_gated_heads(2, 200, 2, 64, device="cuda", seed=5)]
    weight = torch.randn((2, 200, 2, 64), device="cuda")
    try:
        result = gated_delta_rule(*inputs, implementation="fla_chunk", normalize_qk=True)
        found = torch.autograd.grad((result.output * weight).sum(), inputs)
    except RuntimeError as error:
        if "#640" not in str(error):
            raise
        pytest.skip(f"fla refuses gradients here: {error}")
    output, _ = chunked_reference(*inputs, normalize_qk=True, dtype=FP64)
    expected = torch.autograd.grad((output * weight).sum(), inputs)
    for name, one, other in zip(["q", "k", "v", "g", "beta"], found, expected, strict=True):
        assert relative_rms(one, other) <= (0.02 if name in ("g", "beta") else 0.008), name
