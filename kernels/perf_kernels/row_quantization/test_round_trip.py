"""How far are codes times scale from the values: half a step at most, at any size, and with which extreme codes?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.row_quantization import dequantize, quantize_rows
from perf_kernels.row_quantization.inputs import random_rows
from perf_kernels.row_quantization.reference import quotients, round_trip_error
from perf_kernels.row_tests import (
    DEVICE,
    FP8,
    HAS_FP8,
    by_code,
    by_value,
    examples,
    magnitudes,
    rows_of_size,
    seeds,
    values,
)
from perf_kernels.rows import LARGEST_CODE
from perf_kernels.undeclared_tests import any_type_of_rows, few_short_rows

pytestmark = [few_short_rows, any_type_of_rows]

widths = st.one_of(st.integers(1, 80), st.integers(1, 700), st.sampled_from([255, 256, 257, 512, 1024, 1040]))


@by_value
def test_int8_against_other_arithmetic(dtype: torch.dtype) -> None:
    """Dividing by the rounded scale, in fp32 or fp64, decides ties otherwise, each by 1.

    At most 1e-4 of the codes; 1e-3 in 16 bits, where one value in some thousand is half of its row's largest: a tie.
    """
    x = random_rows(48, 3584, dtype, DEVICE, seed=11)
    q, scale = quantize_rows(x)
    quotient = quotients(x, torch.int8)
    at_tie = (quotient.abs() % 1 - 0.5).abs() <= 127 * 2**-23
    for other in ((x.float() / scale[:, None]).round(), (x.double() / scale.double()[:, None]).round()):
        difference = (q.double() - other.double()).abs()
        assert difference.max() <= 1
        assert difference.mean() <= (1e-4 if dtype is torch.float32 else 1e-3)
        assert at_tie[difference != 0].all()


@examples
@given(values, widths, magnitudes, seeds)
def test_int8_round_trip(dtype: torch.dtype, width: int, magnitude: int, seed: int) -> None:
    x = rows_of_size(2, width, dtype, magnitude, seed)
    q, scale = quantize_rows(x)
    # Up to 127 times the roundings of s and of 1 / s come on top of one half.
    assert round_trip_error(x, q, scale) <= 0.5 + 127 * 2**-22


@by_code
@pytest.mark.parametrize("exponent", [-9.1, -12, -20, -60, -110])
def test_small_rows_come_back_at_their_size(exponent: float, code: torch.dtype) -> None:
    """A published kernel clamped the scale but not the multiplier: rows below 1/512 came back 19.5 times larger."""
    x = random_rows(4, 300, torch.float32, DEVICE, seed=3)
    x = x / x.abs().amax(dim=1, keepdim=True) * 2.0**exponent
    back = dequantize(*quantize_rows(x, code))
    step = 2.0**exponent * (1 / 254 if code is torch.int8 else 1 / 28)
    assert (back - x).abs().max() <= step * 1.001


def test_tolerances_of_one_pass_a_scale_that_is_19_times_too_large() -> None:
    """How the published defect went unseen: codes, scales and values were compared with a tolerance of 1."""
    x = random_rows(4, 300, torch.float32, DEVICE, seed=9)
    x = x / x.abs().amax(dim=1, keepdim=True) * 1e-4
    q, scale = quantize_rows(x)
    largest = x.abs().amax(dim=1)
    published_q = (x * (127 / largest)[:, None]).round()
    published_scale = (largest / 127).clamp(min=1 / (512 * 127))
    assert (published_scale / scale).min() > 19.5

    for theirs, ours in (
        (published_q, q.float()),
        (published_scale, scale),
        (published_q * published_scale[:, None], dequantize(q, scale)),
    ):
        torch.testing.assert_close(theirs, ours, rtol=1, atol=1)

    # In steps of the scale that the row needs, half of one is all that rounding explains.
    back = published_q * published_scale[:, None]
    assert ((back - x).abs() / (largest / 127)[:, None]).max() > 2000
    assert ((dequantize(q, scale) - x).abs() / (largest / 127)[:, None]).max() <= 0.5001


@by_value
@by_code
def test_largest_value_gets_the_largest_code(code: torch.dtype, dtype: torch.dtype) -> None:
    x = random_rows(64, 70, dtype, DEVICE, seed=4)
    x[::2] *= torch.finfo(dtype).max / 8
    q, scale = quantize_rows(x, code)
    reached = q.float().abs().amax(dim=1)
    assert torch.equal(reached, torch.full_like(reached, LARGEST_CODE[code]))
    assert scale.isfinite().all()


@pytest.mark.skipif(not HAS_FP8, reason="needs compute capability 8.9 or more for FP8")
def test_fp8_keeps_the_sign_of_zero() -> None:
    x = random_rows(32, 16, torch.float32, DEVICE, seed=8)
    x[:, 0], x[:, 1] = -0.0, 0.0
    q, _ = quantize_rows(x, FP8)
    assert q.view(torch.uint8)[:, :2].tolist() == [[0x80, 0x00]] * 32


@pytest.mark.skipif(not HAS_FP8, reason="needs compute capability 8.9 or more for FP8")
@examples
@given(values, st.integers(1, 300), seeds)
def test_fp8_round_trip(dtype: torch.dtype, width: int, seed: int) -> None:
    x = random_rows(2, width, dtype, DEVICE, seed)
    q, _ = quantize_rows(x, FP8)
    quotient = quotients(x, FP8)
    # Half a step: 2**-4 of the value for normal numbers, 2**-10 for subnormal ones.
    allowed = (quotient.abs() * 2**-4).clamp_min(2**-10) * (1 + 1e-6)
    assert ((q.double() - quotient).abs() <= allowed).all()
