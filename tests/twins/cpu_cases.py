"""CPU cases and their twins: the same names, and slower or bigger code when the environment says so.

``TWIN=slow`` does 30 % more work, ``TWIN=big`` holds 8 MiB more while it runs. Not collected by default; see
``measure.py``.
"""

from __future__ import annotations

import os

import pytest

TWIN = os.environ.get("TWIN", "")
MORE = 1.3 if TWIN == "slow" else 1.0
HELD_BYTES = 8 << 20 if TWIN == "big" else 0

pytestmark = pytest.mark.cpu


def holding(function, *args):
    """Call a function while memory that it did not hold before is held."""
    held = b"x" * HELD_BYTES
    result = function(*args)
    del held
    return result


def test_python_loop(benchmark):
    def loop(count):
        total = 0
        for number in range(count):
            total += number * number
        return total

    assert benchmark(holding, loop, int(20_000 * MORE)) > 0


def test_matmul(benchmark):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    x = torch.randn(int(200 * MORE), 256)
    w = torch.randn(256, 256)
    assert torch.allclose(benchmark(holding, torch.mm, x, w), x @ w, atol=1e-3)


def test_attention(benchmark):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    q, k, v = torch.randn(3, int(10 * MORE), 64, 64)
    out = benchmark(holding, torch.nn.functional.scaled_dot_product_attention, q, k, v)
    assert torch.allclose(out, torch.softmax(q @ k.transpose(-1, -2) / 8, -1) @ v, atol=1e-4)


def test_clone(benchmark):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    x = torch.randn(int(2_000_000 * MORE))
    assert torch.equal(benchmark(holding, torch.clone, x), x)
