"""What is one mixing of tokens by itself, without projections and model around it? Imports torch and perf_kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from perf_workloads.attention.config import SDPA_BACKENDS
from perf_workloads.attention.mixers import attend

Shape = tuple[int, int, int, int]


def operation(name: str, shape: Shape, device: str, seed: int = 0) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Give a call and its random arguments.

    Args:
        name: "softmax-" and one of ``SDPA_BACKENDS``, or "linear-" or "gated_deltanet-" and one of the implementations
            of ``perf_kernels.linear_attention`` or ``perf_kernels.gated_delta_rule``.
        shape: batch, tokens, heads, width of a head.
        device: "cuda", where inputs are bf16, or "cpu", where they are fp32.
        seed: of the inputs.

    Raises:
        ValueError: there is no such operation.
    """
    kind, _, implementation = name.partition("-")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    if kind == "softmax" and implementation in SDPA_BACKENDS:
        batch, tokens, heads, width = shape
        generator = torch.Generator(device).manual_seed(seed)
        inputs = torch.randn((3, batch, heads, tokens, width), generator=generator, device=device, dtype=dtype)
        return lambda q, k, v: attend(q, k, v, implementation), tuple(inputs.unbind(0))
    if kind == "linear":
        from perf_kernels.linear_attention import linear_attention
        from perf_kernels.linear_attention.inputs import random_heads

        heads_of = random_heads(*shape, dtype=dtype, device=device, seed=seed)
        return lambda q, k, v: linear_attention(q, k, v, implementation=implementation).output, heads_of
    if kind == "gated_deltanet":
        from perf_kernels.gated_delta_rule import gated_delta_rule
        from perf_kernels.gated_delta_rule.inputs import random_gated_heads

        gated = random_gated_heads(*shape, dtype=dtype, device=device, seed=seed)
        return lambda *x: gated_delta_rule(*x, implementation=implementation, normalize_qk=True).output, gated
    raise ValueError(f"operation: there is no {name!r}")


def softmax_flops(shape: Shape) -> int:
    """Count the operations of causal softmax attention: two products of half the pairs of tokens."""
    batch, tokens, heads, width = shape
    return 2 * 2 * batch * heads * tokens * tokens * width // 2


def softmax_bytes(shape: Shape, itemsize: int) -> int:
    """Count the bytes that must be moved: queries, keys and values are read and outputs written, each once."""
    batch, tokens, heads, width = shape
    return 4 * batch * tokens * heads * width * itemsize
