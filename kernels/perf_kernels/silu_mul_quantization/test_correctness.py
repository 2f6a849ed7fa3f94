"""Does the kernel give the quantised product: any type, width, stride, position, launch, and awkward values?

What it computes before it quantises has no one right answer in fp32: its error against fp64 may be at most twice that
of plain torch. Where the product is exact, codes and scales are those of row quantisation, bit for bit.
"""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import silu

from perf_kernels.model_shapes import MODELS
from perf_kernels.row_quantization import dequantize, quantize_rows, quantize_rows_reference
from perf_kernels.row_tests import (
    DEVICE,
    assert_same,
    assert_same_at_any_position,
    assert_same_scales,
    assert_writes_nothing_else,
    by_code,
    by_passes,
    by_value,
    codes,
    examples,
    laid_out,
    layouts,
    seeds,
    tile_configs,
    values,
)
from perf_kernels.rows import LARGEST_CODE, SMALLEST_SCALE
from perf_kernels.silu_mul_quantization import (
    LaunchConfig,
    product,
    silu_mul_quantize,
    silu_mul_quantize_reference,
)
from perf_kernels.silu_mul_quantization.inputs import random_gate_up, random_rows, with_exact_products
from perf_kernels.undeclared_tests import any_address_of_codes, any_layout_of_rows, any_type_of_rows, few_short_rows

pytestmark = few_short_rows

widths = st.one_of(st.integers(1, 80), st.integers(1, 700), st.sampled_from([255, 256, 257, 512]))


@any_type_of_rows
@any_layout_of_rows
@examples
@given(values, codes, st.integers(1, 4), widths, st.integers(-12, 8), layouts, tile_configs, seeds)
def test_close_to_reference(
    dtype: torch.dtype,
    code: torch.dtype,
    rows: int,
    width: int,
    magnitude: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    gate_up = random_gate_up(rows, width, torch.float64, "cpu", seed)
    # Beyond the range of fp16 rows would be infinite.
    gate_up[:, width:] *= 2.0**magnitude
    gate_up = laid_out(gate_up.to(dtype).to(DEVICE), layout)
    q, scale = silu_mul_quantize(gate_up, code, config=config)
    assert q.is_contiguous()
    assert (q.shape, q.dtype, scale.shape) == ((rows, width), code, (rows,))
    _, expected_scale = silu_mul_quantize_reference(gate_up, code)
    # A product may be rounded to its other neighbour, the largest of a row as well. fp16 is subnormal below 2**-14.
    step = torch.finfo(dtype).eps
    near = torch.full_like(scale, 2.0**-24 / LARGEST_CODE[code] if dtype is torch.float16 else 0.0)
    assert ((scale - expected_scale).abs() <= torch.maximum(expected_scale * max(step, 2.0**-20), near)).all()
    y = product(gate_up)
    coarse = y.abs() * step + (2.0**-24 if dtype is torch.float16 else 0.0)
    half = (
        0.5 * scale.double()[:, None] if code is torch.int8 else torch.maximum(y.abs() * 2**-4, scale[:, None] * 2**-10)
    )
    error = (dequantize(q, scale).double() - y).abs()
    assert (error <= (half + coarse) * (1 + 2.0**-7)).all()


@any_type_of_rows
@by_code
@by_value
def test_error_against_fp64(dtype: torch.dtype, code: torch.dtype) -> None:
    """At most twice the error of plain torch, operation by operation in the input's type."""
    gate_up = random_gate_up(24, 2048, dtype, DEVICE, seed=11)
    y = product(gate_up)
    gate, up = gate_up.chunk(2, dim=1)
    plain = dequantize(*quantize_rows_reference(silu(gate) * up, code)).double()
    ours = dequantize(*silu_mul_quantize(gate_up, code)).double()
    assert (ours - y).abs().max() <= 2 * (plain - y).abs().max()
    assert (ours - y).square().mean() <= 2 * (plain - y).square().mean()


@any_type_of_rows
@by_code
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_few_codes_differ_from_reference(dtype: torch.dtype, code: torch.dtype) -> None:
    gate_up = random_gate_up(24, 2048, dtype, DEVICE, seed=12)
    q, scale = silu_mul_quantize(gate_up, code)
    expected_q, expected_scale = silu_mul_quantize_reference(gate_up, code)
    same = scale == expected_scale
    assert same.float().mean() >= 0.9
    different = q.view(torch.uint8)[same] != expected_q.view(torch.uint8)[same]
    assert different.float().mean() <= 1e-3


@any_type_of_rows
@examples
@given(values, codes, widths, st.integers(-30, 6), tile_configs, seeds)
def test_exact_products_equal_row_quantization(
    dtype: torch.dtype, code: torch.dtype, width: int, magnitude: int, config: LaunchConfig | None, seed: int
) -> None:
    """silu(128) is 128 in fp32, so the product is up with another exponent."""
    up = (random_rows(3, width, torch.float64, "cpu", seed) * 2.0**magnitude).to(dtype).to(DEVICE)
    gate_up = with_exact_products(up)
    assert_same(silu_mul_quantize(gate_up, code, config=config), quantize_rows(up * 128, code))


@any_type_of_rows
@by_passes
@by_code
@by_value
def test_awkward_rows(dtype: torch.dtype, code: torch.dtype, one_pass: bool) -> None:
    width = 300
    largest = torch.finfo(dtype).max
    rows = {
        "gate of zero": (0.0, 3.0, SMALLEST_SCALE),
        "up of zero": (3.0, 0.0, SMALLEST_SCALE),
        "negative gate far out": (-1e4, 2.0, SMALLEST_SCALE),
        "largest up": (128.0, largest, math.inf),
        "infinite up": (1.0, math.inf, math.inf),
        "infinite gate": (math.inf, 1.0, math.inf),
        "gate of minus infinity": (-math.inf, 1.0, math.nan),
        "zero times infinity": (0.0, -math.inf, math.nan),
        "nan gate": (math.nan, 1.0, math.nan),
        "nan up": (1.0, math.nan, math.nan),
    }
    gate = torch.zeros(len(rows), width)
    up = torch.zeros(len(rows), width)
    for i, (at_gate, at_up, _) in enumerate(rows.values()):
        gate[i, width // 2], up[i, width // 2] = at_gate, at_up
    gate_up = torch.cat([gate, up], dim=1).to(dtype).to(DEVICE)
    q, scale = silu_mul_quantize(gate_up, code, config=LaunchConfig(1, 128, one_pass))
    assert_same_scales(scale.cpu(), torch.tensor([wanted for _, _, wanted in rows.values()]))
    assert (q.view(torch.uint8) & 0x7F).count_nonzero() == 0
    assert_same_scales(scale, silu_mul_quantize_reference(gate_up, code)[1])


@by_code
@pytest.mark.parametrize("width", sorted({model.intermediate for model in MODELS}))
def test_widths_of_the_models(width: int, code: torch.dtype) -> None:
    up = random_rows(2, width, torch.bfloat16, DEVICE, seed=width)
    gate_up = with_exact_products(up)
    assert_same(silu_mul_quantize(gate_up, code), quantize_rows_reference(up * 128, code))


@pytest.mark.parametrize("width", [1, 100_000])
def test_extreme_widths(width: int) -> None:
    up = random_rows(1, width, torch.bfloat16, DEVICE, seed=width)
    gate_up = with_exact_products(up)
    assert_same(silu_mul_quantize(gate_up), quantize_rows_reference(up * 128))


@any_layout_of_rows
@any_type_of_rows
@examples
@given(values, codes, st.integers(1, 400), st.integers(1, 5), layouts, tile_configs, seeds)
def test_a_row_does_not_depend_on_its_position(
    dtype: torch.dtype,
    code: torch.dtype,
    width: int,
    rows: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    row = random_gate_up(1, width, dtype, DEVICE, seed)
    quantize = functools.partial(silu_mul_quantize, dtype=code, config=config)
    assert_same_at_any_position(silu_mul_quantize(row, code), quantize, row, rows, layout)


@any_address_of_codes
@pytest.mark.parametrize("width", [1, 16, 100, 257])
@by_passes
def test_writes_every_code_and_nothing_else(width: int, one_pass: bool) -> None:
    up = random_rows(3, width, torch.bfloat16, DEVICE)
    up[1, width // 2] = math.nan
    gate_up = with_exact_products(up)
    expected = quantize_rows_reference(up * 128)
    config = LaunchConfig(num_warps=1, tile=256, one_pass=one_pass)
    assert_writes_nothing_else(functools.partial(silu_mul_quantize, gate_up, config=config), expected)
