"""Does the kernel give what the reference gives: all kinds of weights, with what stands before and behind it?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.decode_linear import (
    decode_linear,
    decode_linear_reference,
    full_weight,
    pack_int4,
    unpack_int4,
)
from perf_kernels.decode_linear.inputs import FORMATS, Format, random_tokens, random_weights
from perf_kernels.decode_linear.layer_tests import (
    DEVICE,
    FLOATS,
    FP8,
    INT8,
    ROUNDING,
    config_for,
    examples,
    few,
    groups,
    seeds,
)
from perf_kernels.undeclared_tests import any_parts_of_a_layer, narrow_layer

pytestmark = [narrow_layer, any_parts_of_a_layer]


def integer_weights(
    rows: int, width: int, form: Format, dtype: torch.dtype, group: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Draw whole numbers of at most 16, stored with scales that are powers of two: all sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-15, 16, (rows, width), generator=generator)
    if form == "dense":
        return numbers.to(dtype).to(DEVICE), None
    if form == "int4":
        codes = torch.randint(16, (rows, width), generator=generator)
        scale = 2.0 ** torch.randint(-2, 3, (rows, width // group), generator=generator).float()
        words, scales = pack_int4(codes, scale.half(), torch.randint(17, scale.shape, generator=generator))
        return words.to(DEVICE), scales.to(DEVICE)
    scale = 2.0 ** torch.randint(-2, 3, (rows,), generator=generator).float()
    return numbers.to(INT8 if form == "int8" else FP8).to(DEVICE), scale.to(DEVICE)


@few
@given(
    st.sampled_from(FLOATS),
    st.sampled_from(FORMATS),
    st.sampled_from([1, 1, 2, 5, 16, 17, 64]),
    st.integers(1, 6),
    st.integers(1, 24),
    groups,
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_sums_of_whole_numbers_are_exact(
    dtype: torch.dtype,
    form: Format,
    tokens: int,
    blocks: int,
    outputs: int,
    group: int,
    gated: bool,
    residual: bool,
    seed: int,
) -> None:
    width = blocks * group if form == "int4" else blocks * 37
    rows = 2 * outputs if gated else outputs
    values, scale = integer_weights(rows, width, form, dtype, group, seed)
    x = torch.randint(-8, 9, (tokens, width), generator=torch.Generator().manual_seed(seed)).to(dtype).to(DEVICE)
    # In quarters, as the sums are: a compiler may begin fused multiplications and additions of fp32 with the residual.
    quarters = torch.randint(-8, 9, (tokens, outputs), generator=torch.Generator().manual_seed(seed + 1)) / 4
    added = quarters.to(dtype).to(DEVICE) if residual else None
    y = decode_linear(
        x,
        values,
        scale,
        residual=added,
        gated=gated,
        out_dtype=torch.float32,
        config=config_for(tokens, seed),
    )
    expected = decode_linear_reference(x, values, scale, residual=added, gated=gated)
    if gated:
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(y, expected.float())


@few
@given(
    st.sampled_from(FLOATS),
    st.sampled_from(FORMATS),
    st.sampled_from([1, 1, 3, 8, 26]),
    st.integers(1, 6),
    # One output alone may be a small difference of large terms; errors are told by the size of all outputs.
    st.integers(8, 24),
    groups,
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, INT8, FP8]),
    seeds,
)
def test_equals_the_reference(
    dtype: torch.dtype,
    form: Format,
    tokens: int,
    blocks: int,
    outputs: int,
    group: int,
    norm: bool,
    gated: bool,
    codes: torch.dtype | None,
    seed: int,
) -> None:
    width = blocks * group
    values, scale = random_weights(2 * outputs if gated else outputs, width, form, dtype, DEVICE, seed, group)
    x = random_tokens(tokens, width, dtype, DEVICE, seed) * 2.0 ** (seed % 7 - 3)
    weights = (random_tokens(1, width, dtype, DEVICE, seed + 1)[0] / 4 + 1) if norm else None
    y = decode_linear(
        x,
        values,
        scale,
        norm=weights,
        gated=gated,
        codes=codes,
        out_dtype=torch.float32,
        config=config_for(tokens, seed),
    )
    expected = decode_linear_reference(x, values, scale, norm=weights, gated=gated, codes=codes)
    error = (y.double() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error <= (2e-6 if tokens == 1 else 2 * ROUNDING[dtype])


@pytest.mark.parametrize("tokens", [33, 64])
@pytest.mark.parametrize(("form", "codes"), [("int8", INT8), ("int4", None)])
def test_more_tokens_than_a_program_takes(form: Format, codes: torch.dtype | None, tokens: int) -> None:
    """With a norm, gates and codes, or a residual; the last program has one token, or as many as the first."""
    width, outputs = 256, 40
    rows = outputs if codes is None else 2 * outputs
    values, scale = random_weights(rows, width, form, torch.bfloat16, DEVICE, seed=1)
    x = random_tokens(tokens, width, torch.bfloat16, DEVICE, seed=2)
    norm = random_tokens(1, width, torch.bfloat16, DEVICE, seed=3)[0] if codes is not None else None
    residual = random_tokens(tokens, outputs, torch.bfloat16, DEVICE, seed=4) if codes is None else None
    parts = {"norm": norm, "residual": residual, "gated": codes is not None, "codes": codes}
    y = decode_linear(x, values, scale, out_dtype=torch.float32, **parts)
    expected = decode_linear_reference(x, values, scale, **parts)
    error = (y.double() - expected).square().mean(dim=1).sqrt() / expected.square().mean().sqrt()
    assert (error <= 2 * ROUNDING[torch.bfloat16]).all()


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("form", FORMATS)
def test_default_launch_of_a_wide_row(form: Format, tokens: int) -> None:
    """The launch that users get, over several tiles, the last of them not full."""
    values, scale = random_weights(6, 5 * 1024 + 128, form, torch.bfloat16, DEVICE, seed=3)
    x = random_tokens(tokens, 5 * 1024 + 128, torch.bfloat16, DEVICE, seed=4)
    y = decode_linear(x, values, scale)
    expected = decode_linear_reference(x, values, scale)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), expected, rtol=2.0**-7, atol=2.0**-7 * expected.abs().max().item())


@pytest.mark.parametrize("part", ["x", "values", "norm"])
@pytest.mark.parametrize("form", ["dense", "int8", "fp8"])
def test_neighbours_that_cannot_be_loaded_as_one_number(form: Format, part: str) -> None:
    """Where one of the tensors starts between such numbers, all are loaded one by one."""

    def moved(tensor: torch.Tensor, name: str) -> torch.Tensor:
        if name != part:
            return tensor
        room = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device=DEVICE)[1:]
        return room.view(tensor.shape).copy_(tensor)

    values, scale = random_weights(8, 336, form, torch.bfloat16, DEVICE, seed=1)
    x = random_tokens(1, 336, torch.bfloat16, DEVICE, seed=2)
    norm = random_tokens(1, 336, torch.bfloat16, DEVICE, seed=3)[0]
    arguments = (moved(x, "x"), moved(values, "values"), scale)
    y = decode_linear(*arguments, norm=moved(norm, "norm"), out_dtype=torch.float32)
    expected = decode_linear_reference(x, values, scale, norm=norm)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("size", [2.0**-30, 2.0**30])
@pytest.mark.parametrize("form", FORMATS)
def test_tiny_and_huge_tokens(form: Format, size: float) -> None:
    """Codes meet activations as the smallest floats there are: no product may become one of these, or infinite."""
    values, scale = random_weights(8, 256, form, torch.bfloat16, DEVICE, seed=1)
    x = random_tokens(1, 256, torch.bfloat16, DEVICE, seed=2)
    y = decode_linear(x * size, values, scale, out_dtype=torch.float32)
    expected = decode_linear_reference(x * size, values, scale)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=2e-6 * expected.abs().max().item())


def test_result_is_rounded_once() -> None:
    values, scale = random_weights(8, 256, "int8", torch.bfloat16, DEVICE, seed=1)
    x = random_tokens(1, 256, torch.bfloat16, DEVICE, seed=2)
    residual = random_tokens(1, 8, torch.bfloat16, DEVICE, seed=3)
    exact = decode_linear(x, values, scale, residual=residual, out_dtype=torch.float32)
    assert torch.equal(decode_linear(x, values, scale, residual=residual), exact.bfloat16())


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("codes", [None, INT8, FP8], ids=str)
def test_awkward_tokens(codes: torch.dtype | None, tokens: int) -> None:
    """A token of zeros gives zeros; what is not finite stays visible, and stays with its token."""
    values, scale = random_weights(10, 64, "int8", torch.float32, DEVICE, seed=1)
    norm = torch.ones(64, device=DEVICE)
    zeros = torch.zeros(tokens, 64, device=DEVICE)
    assert decode_linear(zeros, values, scale, norm=norm, codes=codes).count_nonzero() == 0
    for value in (torch.nan, torch.inf, -torch.inf):
        x = random_tokens(tokens, 64, torch.float32, DEVICE)
        x[-1, 33] = value
        y = decode_linear(x, values, scale, norm=norm, codes=codes)
        assert not y[-1].isfinite().any()
        assert y[:-1].isfinite().all()


@pytest.mark.parametrize("form", FORMATS)
def test_tokens_do_not_depend_on_each_other(form: Format) -> None:
    values, scale = random_weights(20, 128, form, torch.float16, DEVICE, seed=1, group=64)
    x = random_tokens(5, 128, torch.float16, DEVICE, seed=2)
    norm = random_tokens(1, 128, torch.float16, DEVICE, seed=3)[0]
    y = decode_linear(x, values, scale, norm=norm)
    assert torch.equal(decode_linear(x.flip(0), values, scale, norm=norm), y.flip(0))
    assert torch.equal(decode_linear(x[1:3], values, scale, norm=norm), y[1:3])


def test_leading_dimensions_and_strides() -> None:
    values, scale = random_weights(12, 64, "int8", torch.float32, DEVICE)
    x = random_tokens(6, 64, torch.float32, DEVICE)
    flat = decode_linear(x, values, scale)
    assert torch.equal(decode_linear(x.view(2, 3, 64), values, scale), flat.view(2, 3, 12))
    assert torch.equal(decode_linear(x.t().contiguous().t(), values, scale), flat)
    padded = torch.full((6, 70), torch.nan, device=DEVICE)
    padded[:, :64] = x
    assert torch.equal(decode_linear(padded[:, :64], values, scale), flat)
    alone = decode_linear(x[4], values, scale)
    assert alone.shape == (12,)
    torch.testing.assert_close(alone, flat[4], rtol=1e-5, atol=1e-5)


@examples
@given(st.integers(1, 5), st.integers(1, 4), groups, seeds)
def test_unpacking_undoes_packing(rows: int, blocks: int, group: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(16, (rows, blocks * group), dtype=torch.uint8, generator=generator)
    scale = torch.randn((rows, blocks), generator=generator).half()
    zero = torch.randint(17, (rows, blocks), dtype=torch.uint8, generator=generator)
    packed = pack_int4(codes, scale, zero)
    assert [(part.dtype, part.shape) for part in packed] == [
        (torch.int32, (rows, blocks * group // 8)),
        (torch.int32, (rows, blocks)),
    ]
    for found, expected in zip(unpack_int4(*packed), (codes, scale, zero), strict=True):
        assert torch.equal(found, expected)
    expected = (codes.double().view(rows, blocks, group) - zero[:, :, None]) * scale[:, :, None]
    assert torch.equal(full_weight(*packed), expected.view(rows, -1))


def test_packed_layout() -> None:
    """As documented: nibble j of word c of a group holds column j G / 8 + c; the scale lies below the zero point."""
    codes = torch.zeros(1, 64, dtype=torch.uint8)
    codes[0, [0, 4, 28, 33]] = torch.tensor([1, 2, 15, 7], dtype=torch.uint8)
    words, scales = pack_int4(codes, torch.tensor([[1.0, -2.0]]).half(), torch.tensor([[8, 16]]))
    assert words.tolist() == [[1 | 2 << 4 | (15 << 28) - 2**32, 0, 0, 0, 0, 7, 0, 0]]
    assert scales.tolist() == [[0x3C00 | 8 << 16, 0xC000 | 16 << 16]]
