"""Ordinary CPU cases: a matrix product, an attention call, a Python function. They run on any machine."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest


@pytest.mark.cpu
@pytest.mark.parametrize("size", [256, 512])
def test_matmul(benchmark: Any, torch: ModuleType, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(size, size, generator=generator)
    b = torch.randn(size, size, generator=generator)
    benchmark.work(bytes=3 * a.nbytes, flops=2 * size**3)

    product = benchmark(torch.matmul, a, b)

    torch.testing.assert_close(product.double(), a.double() @ b.double(), rtol=0, atol=1e-3)


@pytest.mark.cpu
def test_attention(benchmark: Any, torch: ModuleType) -> None:
    heads, tokens, width = 8, 256, 64
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, tokens, width, generator=generator) for _ in range(3))
    # Two matrix products over the lower triangle of the tokens x tokens scores, its diagonal included.
    benchmark.work(bytes=4 * query.nbytes, flops=4 * heads * width * tokens * (tokens + 1) / 2)

    out = benchmark(torch.nn.functional.scaled_dot_product_attention, query, key, value, is_causal=True)

    scores = query.double() @ key.double().transpose(-2, -1) / width**0.5
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    expected = scores.masked_fill(later, -torch.inf).softmax(-1) @ value.double()
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.cpu
def test_python_function(benchmark: Any) -> None:
    primes = benchmark(primes_below, 20_000)

    assert len(primes) == 2262
    assert primes[:5] == [2, 3, 5, 7, 11]
    assert primes[-1] == 19997


def primes_below(limit: int) -> list[int]:
    """List the primes below a limit of at least 2 (sieve of Eratosthenes)."""
    prime = [True] * limit
    prime[:2] = [False, False]
    for number in range(2, int(limit**0.5) + 1):
        if prime[number]:
            for multiple in range(number * number, limit, number):
                prime[multiple] = False
    return [number for number in range(limit) if prime[number]]
