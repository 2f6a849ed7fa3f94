"""Does the kernel give what the reference gives: any type, width, stride, position, launch, and awkward values?"""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.model_shapes import WIDTHS
from perf_kernels.row_quantization import LaunchConfig, dequantize, quantize_rows, quantize_rows_reference
from perf_kernels.row_quantization.inputs import FINITE, awkward_rows, random_rows
from perf_kernels.row_quantization.reference import quotients
from perf_kernels.row_tests import (
    DEVICE,
    assert_awkward_rows_are_told,
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
    magnitudes,
    rows_of_size,
    seeds,
    tile_configs,
    values,
)
from perf_kernels.undeclared_tests import any_address_of_codes, any_layout_of_rows, any_type_of_rows, few_short_rows

pytestmark = few_short_rows

widths = st.one_of(st.integers(1, 80), st.integers(1, 700), st.sampled_from([255, 256, 257, 512, 1024, 1040]))


def assert_same_codes(q: torch.Tensor, expected: torch.Tensor, x: torch.Tensor) -> None:
    """Bit for bit; in INT8 from fp32 a code may differ by 1 where the quotient is within fp32 rounding of a tie."""
    assert q.dtype == expected.dtype
    different = q.view(torch.uint8) != expected.view(torch.uint8)
    if q.dtype is torch.int8 and x.dtype is torch.float32:
        quotient = quotients(x, torch.int8).abs()
        excused = ((quotient % 1 - 0.5).abs() <= quotient * 2**-24) & ((q.int() - expected.int()).abs() == 1)
        different &= ~excused
    assert not different.any(), f"{int(different.sum())} codes differ, first at {different.nonzero()[0].tolist()}"


def assert_equals_reference(x: torch.Tensor, dtype: torch.dtype, q: torch.Tensor, scale: torch.Tensor) -> None:
    expected_q, expected_scale = quantize_rows_reference(x, dtype)
    assert q.shape == x.shape
    assert_same_scales(scale, expected_scale)
    assert_same_codes(q, expected_q, x)


@any_type_of_rows
@any_layout_of_rows
@examples
@given(values, codes, st.integers(1, 4), widths, magnitudes, layouts, tile_configs, seeds)
def test_equals_reference(
    dtype: torch.dtype,
    code: torch.dtype,
    rows: int,
    width: int,
    magnitude: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    x = laid_out(rows_of_size(rows, width, dtype, magnitude, seed), layout)
    q, scale = quantize_rows(x, code, config=config)
    assert q.is_contiguous()
    assert_equals_reference(x, code, q, scale)


@any_type_of_rows
@examples
@given(values, st.integers(1, 200), st.integers(1, 8), seeds)
def test_many_ties_equal_reference(dtype: torch.dtype, width: int, shift: int, seed: int) -> None:
    # A largest value of 254 makes the scale 2 and every odd integer a tie.
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-254, 255, (2, width), generator=generator)
    x[:, 0] = 254
    x = (x.double() / 2**shift).to(dtype).to(DEVICE)
    q, scale = quantize_rows(x)
    expected, _ = quantize_rows_reference(x)
    assert torch.equal(q, expected)
    assert torch.equal(scale, torch.full_like(scale, 2.0 ** (1 - shift)))


@by_code
def test_every_pair_of_bf16_mantissas(code: torch.dtype) -> None:
    """A bf16 has 7 stored mantissa bits: all largest values of one binade with all smaller ones of ten, both signs."""
    mantissas = torch.arange(128, 256, dtype=torch.float64)
    smaller = (mantissas[:, None] * 2.0 ** -torch.arange(11)).flatten()
    smaller = torch.cat([smaller, -smaller])
    x = torch.where(smaller.abs() <= mantissas[:, None], smaller, 0.0)
    x[:, 0] = mantissas
    x = x.bfloat16().to(DEVICE)
    q, scale = quantize_rows(x, code)
    assert_equals_reference(x, code, q, scale)


@any_type_of_rows
@pytest.mark.parametrize("width", [4, 600])
@by_code
@by_value
@by_passes
def test_awkward_rows(dtype: torch.dtype, code: torch.dtype, width: int, one_pass: bool) -> None:
    x = awkward_rows(width, dtype, DEVICE)
    q, scale = quantize_rows(x, code, config=LaunchConfig(num_warps=1, tile=256, one_pass=one_pass))
    assert_equals_reference(x, code, q, scale)
    assert_awkward_rows_are_told(q, scale)
    assert dequantize(q, scale)[FINITE:].isnan().all(), "a row that was not finite must stay visible"


@any_type_of_rows
@pytest.mark.parametrize("width", [1, 40_000, 100_000])
@by_value
def test_extreme_widths(dtype: torch.dtype, width: int) -> None:
    x = random_rows(2, width, dtype, DEVICE)
    q, scale = quantize_rows(x)
    assert_equals_reference(x, torch.int8, q, scale)


@by_code
@pytest.mark.parametrize("width", WIDTHS)
def test_widths_of_the_models(width: int, code: torch.dtype) -> None:
    x = random_rows(2, width, torch.bfloat16, DEVICE, seed=width)
    q, scale = quantize_rows(x, code)
    assert_equals_reference(x, code, q, scale)


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
    row = random_rows(1, width, dtype, DEVICE, seed)
    quantize = functools.partial(quantize_rows, dtype=code, config=config)
    assert_same_at_any_position(quantize_rows(row, code), quantize, row, rows, layout)


@any_address_of_codes
@any_type_of_rows
@pytest.mark.parametrize("width", [1, 16, 100, 257, 1040])
@by_code
@by_passes
def test_writes_every_code_and_nothing_else(code: torch.dtype, width: int, one_pass: bool) -> None:
    x = random_rows(3, width, torch.bfloat16, DEVICE)
    x[1, width // 2] = math.nan
    config = LaunchConfig(num_warps=1, tile=256, one_pass=one_pass)
    quantize = functools.partial(quantize_rows, x, code, config=config)
    assert_writes_nothing_else(quantize, quantize_rows_reference(x, code))


@by_code
def test_repeats_bit_for_bit(code: torch.dtype) -> None:
    x = random_rows(8, 3584, torch.bfloat16, DEVICE)
    first = quantize_rows(x, code)
    for _ in range(3):
        assert_same(quantize_rows(x, code), first)
