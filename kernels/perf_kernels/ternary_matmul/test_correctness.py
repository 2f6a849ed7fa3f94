"""Does the kernel give what the reference gives, the integer sums bit for bit?"""

from __future__ import annotations

import itertools
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.target import current_target
from perf_kernels.ternary_matmul import LaunchConfig, pack_ternary, ternary_matmul, ternary_matmul_reference
from perf_kernels.ternary_matmul.inputs import random_layer, random_tokens
from perf_kernels.ternary_matmul.launch import launch_config
from perf_kernels.undeclared_tests import any_layout_of_rows, any_type_of_a_ternary_layer, small_ternary_layer

pytestmark = small_ternary_layer

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
FLOATS = [torch.bfloat16, torch.float16, torch.float32]

examples = settings.get_profile("perf_kernels")
#: For examples that run the kernel in the interpreter, which takes a quarter of a second each.
few = settings(examples, max_examples=min(examples.max_examples, 12) if DEVICE == "cpu" else examples.max_examples)
seeds = st.integers(0, 2**31 - 1)
widths = st.one_of(st.integers(1, 80), st.integers(1, 1100), st.sampled_from([255, 256, 257, 512, 1024]))
configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        num_warps=st.sampled_from([1, 2]),
        outputs=st.sampled_from([16, 32]),
        step=st.sampled_from([1, 5, 16]),
        slices=st.sampled_from([1, 2, 4, 8]),
        tokens=st.sampled_from([8, 16]),
    ),
)


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Give a tensor equal to ``x`` in value with the strides that ``layout`` names."""
    tokens, width = x.shape
    if layout == "contiguous":
        return x.contiguous()
    if layout == "transposed":
        return x.t().contiguous().t()
    shape, start, step = {
        "padded rows": ((tokens, width + 16), 0, 1),
        "offset": ((tokens, width + 5), 5, 1),
        "every other column": ((tokens, 2 * width), 0, 2),
    }[layout]
    # NaN around the values: reading any of it would poison a row.
    room = torch.full(shape, math.nan, dtype=x.dtype, device=x.device)
    view = room[:, start : start + step * width : step]
    view.copy_(x)
    return view


layouts = st.sampled_from(["contiguous", "transposed", "padded rows", "offset", "every other column"])


def assert_bits_equal(y: torch.Tensor, expected: torch.Tensor) -> None:
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    assert torch.equal(y.isnan(), expected.isnan())
    numbers = ~expected.isnan()
    different = (y != expected) & numbers
    assert not different.any(), f"{int(different.sum())} differ, first at {different.nonzero()[0].tolist()}"


@any_layout_of_rows
@any_type_of_a_ternary_layer
@few
@given(st.sampled_from(FLOATS), st.sampled_from([1, 1, 2, 5, 17]), widths, st.integers(1, 40), layouts, configs, seeds)
def test_sums_equal_the_reference_bit_for_bit(
    dtype: torch.dtype,
    tokens: int,
    width: int,
    outputs: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    layer = random_layer(width, outputs, DEVICE, seed)
    x = laid_out(random_tokens(tokens, width, dtype, DEVICE, seed + 1), layout)
    sums = ternary_matmul(x, layer.packed, layer.gamma, out_dtype=torch.int32, config=config)
    assert_bits_equal(sums, ternary_matmul_reference(x, layer.codes, layer.gamma, out_dtype=torch.int32))


@any_type_of_a_ternary_layer
@few
@given(
    st.sampled_from(FLOATS),
    st.sampled_from([None, *FLOATS]),
    st.sampled_from([1, 3]),
    widths,
    st.integers(1, 40),
    st.booleans(),
    st.integers(-30, 10),
    seeds,
)
def test_outputs_equal_the_reference(
    dtype: torch.dtype,
    out_dtype: torch.dtype | None,
    tokens: int,
    width: int,
    outputs: int,
    with_bias: bool,
    magnitude: int,
    seed: int,
) -> None:
    layer = random_layer(width, outputs, DEVICE, seed)
    x = (random_tokens(tokens, width, torch.float32, DEVICE, seed) * 2.0**magnitude).to(dtype)
    bias = random_tokens(1, outputs, dtype, DEVICE, seed + 2)[0] if with_bias else None
    y = ternary_matmul(x, layer.packed, layer.gamma, bias, out_dtype=out_dtype)
    assert_bits_equal(y, ternary_matmul_reference(x, layer.codes, layer.gamma, bias, out_dtype))


@any_type_of_a_ternary_layer
@pytest.mark.parametrize("tokens", [1, 9])
@pytest.mark.parametrize(("width", "tiles"), [(8192, 1), (9000, 2), (18000, 3)])
def test_wide_rows(width: int, tiles: int, tokens: int) -> None:
    """One token: the widest row that is handled in one go, one of two tiles, which are unrolled, and one in a loop."""
    assert launch_config(1, 17, width, current_target()).tiles(width) == tiles
    layer = random_layer(width, 17, DEVICE, seed=width)
    x = random_tokens(tokens, width, torch.bfloat16, DEVICE, seed=1)
    sums = ternary_matmul(x, layer.packed, layer.gamma, out_dtype=torch.int32)
    assert_bits_equal(sums, ternary_matmul_reference(x, layer.codes, layer.gamma, out_dtype=torch.int32))


@any_type_of_a_ternary_layer
@pytest.mark.parametrize("tokens", [2, 8, 16, 33, 64])
def test_batches(tokens: int) -> None:
    layer = random_layer(600, 50, DEVICE, seed=tokens)
    x = random_tokens(tokens, 600, torch.float16, DEVICE, seed=2)
    assert_bits_equal(
        ternary_matmul(x, layer.packed, layer.gamma), ternary_matmul_reference(x, layer.codes, layer.gamma)
    )


@any_type_of_a_ternary_layer
@pytest.mark.parametrize("tokens", [1, 2])
def test_largest_sums(tokens: int) -> None:
    """All weights and all activations at one end: nothing wraps or saturates, in any field."""
    for sign, code in itertools.product([-1, 1], [-1, 1]):
        codes = torch.full((16, 2048), code, dtype=torch.int8, device=DEVICE)
        x = torch.full((tokens, 2048), 3.0 * sign, device=DEVICE)
        gamma = torch.tensor(1.0, device=DEVICE)
        sums = ternary_matmul(x, pack_ternary(codes), gamma, out_dtype=torch.int32)
        assert torch.equal(sums, torch.full_like(sums, 127 * 2048 * sign * code))


@any_type_of_a_ternary_layer
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_awkward_tokens(dtype: torch.dtype, tokens: int) -> None:
    layer = random_layer(300, 20, DEVICE, seed=5)
    normal = random_tokens(tokens, 300, dtype, DEVICE, seed=6)
    tiny = normal * 1e-7
    for x in (torch.zeros_like(normal), -torch.zeros_like(normal), tiny, normal.sign() * torch.finfo(dtype).max):
        y = ternary_matmul(x, layer.packed, layer.gamma)
        assert y.isfinite().all() or dtype is torch.float16
        assert_bits_equal(y, ternary_matmul_reference(x, layer.codes, layer.gamma))
    for value, column in ((torch.inf, 0), (-torch.inf, 299), (torch.nan, 150)):
        x = normal.clone()
        x[-1, column] = value
        assert ternary_matmul(x, layer.packed, layer.gamma)[-1].isnan().all(), "the damage must stay visible"
        sums = ternary_matmul(x, layer.packed, layer.gamma, out_dtype=torch.int32)
        assert_bits_equal(sums, ternary_matmul_reference(x, layer.codes, layer.gamma, out_dtype=torch.int32))
        assert sums[-1].count_nonzero() == 0


@any_layout_of_rows
@few
@given(st.integers(1, 600), st.integers(2, 12), layouts, seeds)
def test_a_token_does_not_depend_on_its_position(width: int, tokens: int, layout: str, seed: int) -> None:
    """The launch for one token and the one for many give the same bits, whatever the strides."""
    layer = random_layer(width, 21, DEVICE, seed)
    row = random_tokens(1, width, torch.bfloat16, DEVICE, seed)
    alone = ternary_matmul(row, layer.packed, layer.gamma)
    y = ternary_matmul(laid_out(row.expand(tokens, width), layout), layer.packed, layer.gamma)
    assert torch.equal(y, alone.expand(tokens, 21))


@any_type_of_a_ternary_layer
def test_leading_dimensions() -> None:
    layer = random_layer(100, 20, DEVICE)
    x = random_tokens(6, 100, torch.float32, DEVICE)
    flat = ternary_matmul(x, layer.packed, layer.gamma)
    assert torch.equal(ternary_matmul(x.view(2, 3, 100), layer.packed, layer.gamma), flat.view(2, 3, 20))
    assert torch.equal(ternary_matmul(x[4], layer.packed, layer.gamma), flat[4])


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (2, 0, 7)], ids=str)
def test_empty(shape: tuple[int, ...]) -> None:
    layer = random_layer(max(shape[-1], 1), 4, DEVICE)
    packed = layer.packed if shape[-1] else layer.packed[:, :0].contiguous()
    bias = torch.ones(4, device=DEVICE)
    y = ternary_matmul(torch.empty(shape, device=DEVICE), packed, layer.gamma, bias)
    assert torch.equal(y, torch.ones((*shape[:-1], 4), device=DEVICE))


@any_type_of_a_ternary_layer
@pytest.mark.parametrize("tokens", [1, 4])
def test_approximates_the_ternary_layer(tokens: int) -> None:
    """Against the product with unquantised activations: half a step of each activation, and the output's rounding."""
    layer = random_layer(512, 32, DEVICE, seed=3)
    x = random_tokens(tokens, 512, torch.float32, DEVICE, seed=4)
    exact = x.double() @ (layer.codes.double() * layer.gamma.double()).t()
    y = ternary_matmul(x, layer.packed, layer.gamma)
    step = x.abs().amax(dim=1, keepdim=True).double() / 127
    bound = 0.5001 * step * layer.codes.abs().sum(dim=1).double() * layer.gamma.double() + exact.abs() * 2**-22
    assert ((y.double() - exact).abs() <= bound).all()
