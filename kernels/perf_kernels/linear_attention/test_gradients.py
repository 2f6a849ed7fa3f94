"""Are the gradients of the operator those of the reference, of all five tensors, and once more?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.linear_attention import (
    LaunchConfig,
    chunk_linear_attention,
    chunked_reference,
    recurrent_reference,
    relative_rms,
)
from perf_kernels.linear_attention.inputs import random_heads, random_state
from perf_kernels.linear_attention.oracle import FLOOR
from perf_kernels.linear_attention.strategies import DEVICE, FP64, configs, few, seeds
from perf_kernels.undeclared_tests import any_state, few_tokens

pytestmark = few_tokens


@any_state
@few
@given(st.booleans(), st.booleans(), configs, seeds)
def test_gradients(normalize: bool, start: bool, config: LaunchConfig | None, seed: int) -> None:
    batch, tokens, heads, keys, values = 1, 40, 2, 12, 20
    inputs = random_heads(batch, tokens, heads, keys, values, torch.bfloat16, DEVICE, seed, positive=normalize)
    state = random_state(batch, heads, keys, values, DEVICE, seed, normalize=normalize) if start else None
    leaves = list(inputs) + ([] if state is None else [*state] if normalize else [state])
    generator = torch.Generator(device=DEVICE).manual_seed(seed)
    weights = [
        torch.randn(shape, device=DEVICE, generator=generator)
        for shape in ((batch, tokens, heads, values), (batch, heads, keys, values), (batch, 1, heads, keys))
    ]

    def gradients(attend: Any, leaf_dtype: torch.dtype | None, **options: Any) -> tuple[torch.Tensor, ...]:
        ours = [leaf.detach().to(leaf_dtype or leaf.dtype).requires_grad_() for leaf in leaves]
        given = None if state is None else tuple(ours[3:]) if normalize else ours[3]
        if leaf_dtype is FP64 and given is not None:
            # A state is fp32 by its contract; the reference computes on in fp64.
            given = tuple(x.float() for x in given) if normalize else given.float()
        output, final = attend(*ours[:3], initial_state=given, output_final_state=True, normalize=normalize, **options)
        finals = final if normalize else (final,)
        loss = sum((x * weight).sum() for x, weight in zip((output, *finals), weights, strict=False))
        return torch.autograd.grad(loss, ours)

    found = gradients(chunk_linear_attention, None, config=config)
    rounded = gradients(chunked_reference, None, chunk=16, factors=torch.bfloat16)
    expected = gradients(recurrent_reference, FP64, dtype=FP64)
    for name, one, torch_one, exact in zip(["q", "k", "v", "state", "key_sum"], found, rounded, expected, strict=False):
        # The oracle rule. Gradients of bf16 are rounded to it, wherever they come from.
        assert relative_rms(one, exact) <= 2 * relative_rms(torch_one, exact) + 2**-8, name


@any_state
def test_gradients_of_the_state_alone() -> None:
    inputs = [x.requires_grad_() for x in random_heads(1, 20, 1, 16, dtype=torch.float32, device=DEVICE)]
    _, final = chunk_linear_attention(*inputs, output_final_state=True)
    dq, dk, dv = torch.autograd.grad(final.sum(), inputs, allow_unused=True)
    _, k, v = inputs
    assert dq is None or not dq.any()
    assert relative_rms(dk, v.sum(dim=-1, keepdim=True).expand_as(k)) <= FLOOR[torch.float32]
    assert relative_rms(dv, k.sum(dim=-1, keepdim=True).expand_as(v)) <= FLOOR[torch.float32]


def test_second_gradients() -> None:
    q, k, v = (x.requires_grad_() for x in random_heads(1, 20, 1, 16, dtype=torch.float32, device=DEVICE))

    def second(attend: Any) -> torch.Tensor:
        output, _ = attend(q, k, v)
        (dq,) = torch.autograd.grad(output.square().sum(), q, create_graph=True)
        (dk,) = torch.autograd.grad(dq.square().sum(), k)
        return dk

    assert relative_rms(second(chunk_linear_attention), second(recurrent_reference)) <= 10 * FLOOR[torch.float32]


@any_state
@pytest.mark.cuda
@pytest.mark.parametrize("normalize", [False, True])
def test_gradients_at_a_real_size(normalize: bool) -> None:
    inputs = random_heads(2, 2000, 4, 128, dtype=torch.bfloat16, device="cuda", seed=7, positive=normalize)
    weight = torch.randn((2, 2000, 4, 128), device="cuda")
    found, expected = (
        torch.autograd.grad((attend(*leaves, normalize=normalize, **options)[0] * weight).sum(), leaves)
        for attend, leaves, options in (
            (chunk_linear_attention, [x.detach().requires_grad_() for x in inputs], {}),
            (chunked_reference, [x.double().requires_grad_() for x in inputs], {"dtype": FP64}),
        )
    )
    for name, one, other in zip("qkv", found, expected, strict=True):
        assert relative_rms(one, other) <= 0.008, name
