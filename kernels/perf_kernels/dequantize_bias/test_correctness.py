"""Does the kernel give what the reference gives: any type, shape, stride, padding, launch, and large accumulators?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.dequantize_bias import (
    LaunchConfig,
    dequantize_bias,
    dequantize_bias_oracle,
    dequantize_bias_reference,
)
from perf_kernels.dequantize_bias.inputs import random_products
from perf_kernels.row_tests import DEVICE, examples, seeds
from perf_kernels.undeclared_tests import any_layout_of_products, any_type_of_products, few_products

pytestmark = few_products

ACCUMULATORS = [torch.int32, torch.float32, torch.bfloat16]
RESULTS = [torch.bfloat16, torch.float16, torch.float32]

configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        block_rows=st.sampled_from([1, 4, 32]),
        block_columns=st.sampled_from([16, 64, 256]),
        num_warps=st.sampled_from([1, 4]),
        group=st.sampled_from([1, 2, 3, 64]),
    ),
)
layouts = st.sampled_from(["contiguous", "padded", "offset", "transposed", "every other column"])


def laid_out(acc: torch.Tensor, layout: str) -> torch.Tensor:
    """Give a tensor whose first rows and columns equal ``acc``, with the strides that ``layout`` names."""
    rows, columns = acc.shape
    if layout == "contiguous":
        return acc.contiguous()
    if layout == "transposed":
        return acc.t().contiguous().t()
    # What lies around the values shows where it is read by mistake.
    room = torch.full((rows + 16, 2 * columns + 32), 2**30, dtype=acc.dtype, device=acc.device)
    view = {"padded": room, "offset": room[3:, 5:], "every other column": room[:, ::2]}[layout]
    view[:rows, :columns] = acc
    return view


def assert_same_bits(y: torch.Tensor, expected: torch.Tensor) -> None:
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    numbers = torch.int32 if y.dtype is torch.float32 else torch.int16
    assert torch.equal(y.isnan(), expected.isnan())
    different = (y.view(numbers) != expected.view(numbers)) & ~expected.isnan()
    assert not different.any(), f"{int(different.sum())} results differ, first at {different.nonzero()[0].tolist()}"


@any_layout_of_products
@any_type_of_products
@examples
@given(
    st.sampled_from(ACCUMULATORS),
    st.booleans(),
    st.sampled_from(RESULTS),
    st.sampled_from([None, *RESULTS]),
    st.integers(1, 40),
    st.integers(1, 300),
    layouts,
    configs,
    seeds,
)
def test_equals_reference(
    acc_dtype: torch.dtype,
    scaled: bool,
    dtype: torch.dtype,
    bias_dtype: torch.dtype | None,
    rows: int,
    columns: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    acc, row_scale, column_scale, bias = random_products(rows, columns, acc_dtype, "cpu", seed)
    acc = laid_out(acc.to(DEVICE), layout)
    row_scale, column_scale = row_scale.to(DEVICE), column_scale.to(DEVICE)
    if scaled:
        # Columns of padding cannot be told from others.
        acc, column_scale = acc[:, :columns], None
    bias = None if bias_dtype is None else bias.to(DEVICE, bias_dtype)
    y = dequantize_bias(acc, row_scale, column_scale, bias, dtype, config=config)
    assert y.is_contiguous()
    assert_same_bits(y, dequantize_bias_reference(acc, row_scale, column_scale, bias, dtype))


@any_type_of_products
@pytest.mark.parametrize("dtype", RESULTS, ids=str)
@pytest.mark.parametrize("acc_dtype", ACCUMULATORS, ids=str)
@pytest.mark.parametrize("scaled", [False, True])
def test_error_against_fp64(acc_dtype: torch.dtype, dtype: torch.dtype, scaled: bool) -> None:
    """At most twice the error of the same in plain torch, operation by operation in fp32."""
    acc, row_scale, column_scale, bias = random_products(32, 500, acc_dtype, DEVICE, seed=3)
    if scaled:
        acc, column_scale = (acc * column_scale).to(acc_dtype), None
    oracle = dequantize_bias_oracle(acc, row_scale, column_scale, bias)
    plain = (acc.float() * row_scale[:, None] * (1 if scaled else column_scale) + bias.float()).to(dtype)
    y = dequantize_bias(acc, row_scale, column_scale, bias, dtype)
    error, allowed = (y.double() - oracle).abs(), (plain.double() - oracle).abs()
    assert error.max() <= 2 * allowed.max()
    assert error.mean() <= 2 * allowed.mean()


@any_layout_of_products
@any_type_of_products
@examples
@given(
    st.sampled_from([torch.bfloat16, torch.float32]),
    st.integers(1, 40),
    st.integers(1, 300),
    st.booleans(),
    st.booleans(),
    configs,
    seeds,
)
def test_in_place(
    dtype: torch.dtype,
    rows: int,
    columns: int,
    padded: bool,
    with_bias: bool,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    """Results take the place of what the column scales were applied to; what lies around them stays as it was."""
    drawn, row_scale, _, bias = random_products(rows, columns, dtype, seed=seed)
    room = torch.full((rows + 3, columns + (16 if padded else 0)), 7.0, dtype=drawn.dtype, device=DEVICE)
    acc = room[:rows, :columns]
    acc.copy_(drawn)
    row_scale, bias = row_scale.to(DEVICE), bias.to(DEVICE) if with_bias else None
    expected = dequantize_bias_reference(acc, row_scale, None, bias, dtype)
    assert dequantize_bias(acc, row_scale, None, bias, dtype, config=config, out=acc) is acc
    assert_same_bits(acc.contiguous(), expected)
    assert (room[rows:] == 7).all()
    assert (room[:, columns:] == 7).all()


@examples
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=64), st.sampled_from(RESULTS))
def test_accumulators_past_2_to_24(values: list[int], dtype: torch.dtype) -> None:
    """INT32 is exact in fp32 to 2**24, which 1041 products of codes of 127 pass; beyond it is rounded to nearest."""
    acc = torch.tensor([values], dtype=torch.int32, device=DEVICE)
    ones = torch.ones(len(values), device=DEVICE)
    y = dequantize_bias(acc, ones[:1], ones, dtype=torch.float32)
    assert torch.equal(y, acc.float())
    assert (y.double() - acc.double()).abs().max() <= 2**6
    scale = torch.full((1,), 2.0**-17, device=DEVICE)
    assert_same_bits(
        dequantize_bias(acc, scale, ones, dtype=dtype), dequantize_bias_reference(acc, scale, ones, dtype=dtype)
    )


def test_small_scales_do_not_vanish() -> None:
    """The product of two scales may be below the smallest fp32 where the result is not."""
    acc = torch.full((1, 4), 2**30, dtype=torch.int32, device=DEVICE)
    row_scale = torch.full((1,), 2.0**-80, device=DEVICE)
    column_scale = torch.full((4,), 2.0**-75, device=DEVICE)
    y = dequantize_bias(acc, row_scale, column_scale, dtype=torch.float32)
    assert y.tolist() == [[2.0**-125] * 4]


@pytest.mark.parametrize("acc_dtype", [torch.int32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_damage_stays_visible(scale: float, acc_dtype: torch.dtype) -> None:
    """A row that could not be quantised has codes 0 and a scale that is not finite."""
    acc = torch.zeros((2, 5), dtype=acc_dtype, device=DEVICE)
    row_scale = torch.tensor([scale, 1.0], device=DEVICE)
    y = dequantize_bias(acc, row_scale, None if acc_dtype is torch.bfloat16 else torch.ones(5, device=DEVICE))
    assert y[0].isnan().all()
    assert (y[1] == 0).all()


@any_layout_of_products
@examples
@given(st.integers(1, 200), st.integers(1, 30), layouts, configs, seeds)
def test_a_row_does_not_depend_on_its_position(
    columns: int, rows: int, layout: str, config: LaunchConfig | None, seed: int
) -> None:
    acc, row_scale, column_scale, bias = random_products(1, columns, torch.int32, DEVICE, seed)
    alone = dequantize_bias(acc, row_scale, column_scale, bias)
    acc = laid_out(acc.expand(rows, columns), layout)
    y = dequantize_bias(acc, row_scale.repeat(rows), column_scale, bias, config=config)
    assert_same_bits(y, alone.repeat(rows, 1))


@any_type_of_products
@pytest.mark.parametrize("columns", [1, 100, 257])
@pytest.mark.parametrize("dtype", RESULTS, ids=str)
def test_writes_every_result_and_nothing_else(dtype: torch.dtype, columns: int) -> None:
    acc, row_scale, column_scale, bias = random_products(7, columns, torch.int32, DEVICE)
    expected = dequantize_bias_reference(acc, row_scale, column_scale, bias, dtype)
    for poison in (float("nan"), 7.0):
        room = torch.full((9, columns + 32), poison, dtype=dtype, device=DEVICE)
        out = room[1:-1, 16 : 16 + columns]
        y = dequantize_bias(acc, row_scale, column_scale, bias, dtype, out=out)
        assert y is out
        assert_same_bits(y.clone(), expected)
        y.fill_(poison)
        assert_same_bits(room, torch.full_like(room, poison))


def test_reference_of_a_known_row() -> None:
    acc = torch.tensor([[2, -3, 99], [10, 0, 99], [99, 99, 99]], dtype=torch.int32)
    row_scale, column_scale, bias = torch.tensor([0.5, 2.0]), torch.tensor([4.0, 0.25]), torch.tensor([1.0, -1.0])
    assert dequantize_bias_reference(acc[:, :2], row_scale, None, bias, torch.float32).tolist() == [
        [2.0, -2.5],
        [21.0, -1.0],
    ]
    expected = [[5.0, -1.375], [81.0, -1.0]]
    assert dequantize_bias_reference(acc, row_scale, column_scale, bias, torch.float32).tolist() == expected
    assert dequantize_bias_oracle(acc, row_scale, column_scale, bias).tolist() == expected
