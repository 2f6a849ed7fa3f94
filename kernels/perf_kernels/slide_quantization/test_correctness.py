"""Does the kernel give what row quantisation gives, slid: any type, group, width, stride, position and launch?"""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from perf_kernels.model_shapes import WIDTHS
from perf_kernels.row_quantization import quantize_rows
from perf_kernels.row_tests import (
    CODES,
    DEVICE,
    assert_awkward_rows_are_told,
    assert_same,
    assert_same_at_any_position,
    assert_writes_nothing_else,
    by_code,
    by_passes,
    codes,
    examples,
    laid_out,
    layouts,
    magnitudes,
    rows_of_size,
    seeds,
    values,
)
from perf_kernels.slide_quantization import (
    LaunchConfig,
    padded_rows,
    slide,
    slide_quantize_rows,
    slide_quantize_rows_reference,
)
from perf_kernels.slide_quantization.inputs import awkward_rows, random_rows
from perf_kernels.slide_quantization.launch import GROUPS, cut
from perf_kernels.undeclared_tests import (
    any_address_of_codes,
    any_group,
    any_layout_of_rows,
    any_type_of_rows,
    few_short_rows,
)

pytestmark = few_short_rows

# Every call makes 16 rows, and the interpreter takes a quarter of a second for them.
fewer = settings(examples, max_examples=min(examples.max_examples, 12) if DEVICE == "cpu" else examples.max_examples)
sizes = st.sampled_from(list(GROUPS))
widths = st.one_of(st.integers(1, 80), st.integers(1, 500), st.sampled_from([256, 480, 768]))
configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        num_warps=st.sampled_from([1, 2]),
        groups=st.sampled_from([1, 2, 4]),
        trade=st.booleans(),
        one_pass=st.booleans(),
    ),
)

by_size = pytest.mark.parametrize("group", GROUPS)


def row_quantization_slid(x: torch.Tensor, group: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    q, scale = quantize_rows(x, dtype)
    more = padded_rows(len(x)) - len(x)
    return pad(slide(q.view(torch.uint8), group), (0, 0, 0, more)).view(dtype), pad(scale, (0, more), value=1.0)


@any_group
@any_layout_of_rows
@any_type_of_rows
@fewer
@given(values, codes, sizes, st.integers(1, 3), widths, magnitudes, layouts, configs, seeds)
def test_equals_row_quantization_slid(
    dtype: torch.dtype,
    code: torch.dtype,
    group: int,
    rows: int,
    width: int,
    magnitude: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    x = laid_out(rows_of_size(rows, width, dtype, magnitude, seed), layout)
    q, scale = slide_quantize_rows(x, group, code, config=config)
    assert q.is_contiguous()
    assert_same((q, scale), row_quantization_slid(x, group, code))


@any_group
@by_size
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_reference_in_every_launch(group: int, groups: int) -> None:
    code = CODES[(groups + group // 2) % len(CODES)]
    x = random_rows(1, 11 * group + 5, torch.bfloat16, DEVICE, seed=group)
    expected = slide_quantize_rows_reference(x, group, code)
    for trade in (True, False):
        assert_same(slide_quantize_rows(x, group, code, config=LaunchConfig(1, groups, trade)), expected)


@any_group
@by_size
@by_passes
def test_several_tiles(group: int, one_pass: bool) -> None:
    x = random_rows(16, 1000, torch.bfloat16, DEVICE, seed=2)[:2]
    config = LaunchConfig(1, 2, one_pass=one_pass)
    assert cut(config, 1000, group, 2, 32).tiles >= 2
    assert_same(slide_quantize_rows(x, group, config=config), slide_quantize_rows_reference(x, group))


@any_type_of_rows
@by_code
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_awkward_rows(dtype: torch.dtype, code: torch.dtype) -> None:
    x = awkward_rows(60, dtype, DEVICE)
    q, scale = slide_quantize_rows(x, 8, code)
    assert_same((q, scale), row_quantization_slid(x, 8, code))
    assert_awkward_rows_are_told(q, scale)


@pytest.mark.parametrize("width", WIDTHS[::2])
def test_widths_of_the_models(width: int) -> None:
    x = random_rows(1, width, torch.bfloat16, DEVICE, seed=width)
    assert_same(slide_quantize_rows(x, 8), slide_quantize_rows_reference(x, 8))


@by_code
def test_groups_of_four_are_row_quantization(code: torch.dtype) -> None:
    x = random_rows(16, 96, torch.bfloat16, DEVICE)
    assert_same(slide_quantize_rows(x, 4, code), quantize_rows(x, code))


@any_layout_of_rows
@any_type_of_rows
@fewer
@given(codes, sizes, st.integers(1, 200), st.integers(2, 5), layouts, seeds)
def test_a_row_does_not_depend_on_its_position(
    code: torch.dtype, group: int, width: int, rows: int, layout: str, seed: int
) -> None:
    row = random_rows(1, width, torch.bfloat16, DEVICE, seed)
    quantize = functools.partial(slide_quantize_rows, group=group, dtype=code)
    assert_same_at_any_position(quantize(row), quantize, row, rows, layout)


@any_address_of_codes
@pytest.mark.parametrize("width", [1, 100, 257])
@pytest.mark.parametrize("group", [4, 8, 10])
def test_writes_every_code_and_nothing_else(group: int, width: int) -> None:
    x = random_rows(3, width, torch.bfloat16, DEVICE)
    x[1, width // 2] = math.nan
    expected = slide_quantize_rows_reference(x, group)
    assert_writes_nothing_else(functools.partial(slide_quantize_rows, x, group), expected, margin=0)
