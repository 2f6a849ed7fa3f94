"""Is what the product rests on true: is packing undone by unpacking, and are numbers quantised as documented?"""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.ternary_matmul import pack_ternary, packed_bytes, quantize_tokens, quantize_weight, unpack_ternary
from perf_kernels.ternary_matmul.inputs import random_tokens

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

examples = settings.get_profile("perf_kernels")
seeds = st.integers(0, 2**31 - 1)


@examples
@given(st.integers(1, 5), st.integers(1, 600), seeds)
def test_unpacking_undoes_packing(outputs: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-1, 2, (outputs, width), dtype=torch.int8, generator=generator).to(DEVICE)
    packed = pack_ternary(codes)
    assert (packed.dtype, packed.shape) == (torch.uint8, (outputs, packed_bytes(width)))
    assert torch.equal(unpack_ternary(packed, width), codes)


def test_packing_is_a_bijection() -> None:
    """All 81 combinations of four weights give different bytes, and each byte gives its combination."""
    codes = torch.zeros(81, 256, dtype=torch.int8)
    codes[:, ::64] = torch.tensor(list(itertools.product([-1, 0, 1], repeat=4)), dtype=torch.int8)
    packed = pack_ternary(codes)
    assert packed[:, 0].unique().numel() == 81
    assert torch.equal(pack_ternary(unpack_ternary(packed, 256)), packed)


def test_packed_layout() -> None:
    """As documented: three fields hold w + 1, the highest two's complement; byte j holds columns j, 64 + j, ..."""
    codes = torch.zeros(1, 257, dtype=torch.int8)
    codes[0, [0, 64, 128, 192]] = torch.tensor([1, -1, 0, -1], dtype=torch.int8)
    codes[0, 63] = 1
    packed = pack_ternary(codes)
    empty = 0b00_01_01_01
    assert packed.shape == (1, 128)
    assert packed[0, :2].tolist() == [0b11_01_00_10, empty]
    assert packed[0, 62:66].tolist() == [empty, 0b00_01_01_10, empty, empty]


def test_packing_rejects_other_codes() -> None:
    codes = torch.zeros(3, 4, dtype=torch.int8)
    codes[1, 2] = -2
    with pytest.raises(ValueError) as caught:
        pack_ternary(codes)
    assert str(caught.value) == "pack_ternary: codes[1, 2] is -2; codes must be -1, 0 or 1"


def test_quantize_weight() -> None:
    codes, gamma = quantize_weight(torch.tensor([[0.5, -0.5, 0.1], [2.0, -0.24, 0.26]]))
    assert gamma.item() == pytest.approx(0.6)
    assert codes.tolist() == [[1, -1, 0], [1, 0, 0]]
    codes, gamma = quantize_weight(torch.full((2, 2), 1e-7))
    assert gamma.item() == pytest.approx(1e-5)
    assert codes.count_nonzero() == 0


def test_quantize_tokens() -> None:
    q, scale = quantize_tokens(torch.tensor([[127.0, -63.5, 0.5, 1.5], [0.0, 1e-6, -1e-6, 0.0]]))
    assert scale.tolist() == [1.0, pytest.approx(127e5)]
    assert q.tolist() == [[127, -64, 0, 2], [0, 13, -13, 0]]


def test_quantisation_against_other_arithmetic() -> None:
    """Rounding the product x s to fp32 before it is rounded to an integer changes codes only at ties."""
    x = random_tokens(64, 2560, torch.float32, DEVICE, seed=9)
    q, scale = quantize_tokens(x)
    product = x * scale[:, None]
    different = q != product.round().to(torch.int8)
    assert different.float().mean() <= 1e-4
    assert ((product[different] % 1 - 0.5).abs() <= 2**-16).all()
