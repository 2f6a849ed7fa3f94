"""Does the kernel give what the reference gives: all kinds of weights, with what stands before and behind it?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.decode_linear import (
    LaunchConfig,
    decode_linear,
    decode_linear_reference,
    full_weight,
    pack_int4,
    unpack_int4,
)
from perf_kernels.decode_linear.inputs import FORMATS, Format, random_tokens, random_weights
from perf_kernels.row_tests import laid_out, layouts
from perf_kernels.target import DEVICE_TYPE, INTERPRETED
from perf_kernels.undeclared_tests import any_parts_of_a_layer, narrow_layer

pytestmark = [narrow_layer, any_parts_of_a_layer]

DEVICE = DEVICE_TYPE
FLOATS = [torch.bfloat16, torch.float16, torch.float32]
INT8, FP8 = torch.int8, torch.float8_e4m3fn
#: What the rounding of operands to the type of x, which one token does not take, and fp32 sums may cost.
ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 1e-6}

examples = settings.get_profile("perf_kernels")
#: For examples that run the kernel in the interpreter, which takes up to a second each.
few = settings(examples, max_examples=min(examples.max_examples, 8) if INTERPRETED else examples.max_examples)
seeds = st.integers(0, 2**31 - 1)
groups = st.sampled_from([32, 64, 128])


def config_for(tokens: int, seed: int) -> LaunchConfig | None:
    """Choose a launch: few programs, because the interpreter runs them one after the other; sometimes the default."""
    rows = [16, 32][seed % 2] if tokens > 1 else [4, 8, 16][seed % 3]
    if seed % 5 == 0 and not INTERPRETED:
        return None
    return LaunchConfig(rows, [32, 64, 128][seed % 3], num_warps=1 if tokens == 1 else 4)


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


def moved(tensor: torch.Tensor, offset: int) -> torch.Tensor:
    """Give a contiguous copy that begins ``offset`` elements into memory that holds something else."""
    room = torch.full((offset + tensor.numel() + 3,), 99, device=DEVICE).to(tensor.dtype)
    return room[offset : offset + tensor.numel()].view(tensor.shape).copy_(tensor)


@few
@given(
    st.sampled_from(FLOATS),
    st.sampled_from(FORMATS),
    st.sampled_from([1, 1, 3]),
    layouts,
    st.lists(st.integers(0, 9), min_size=4, max_size=4),
    st.integers(-30, 55),
    st.sampled_from([None, 0.0, -0.0]),
    seeds,
)
def test_strides_addresses_and_sizes(
    dtype: torch.dtype,
    form: Format,
    tokens: int,
    layout: str,
    offsets: list[int],
    exponent: int,
    zero: float | None,
    seed: int,
) -> None:
    """Activations lie in any way, amid NaN; the others begin anywhere. A last token of zeros gives the residual."""
    width, outputs = 160, 12
    values, scale = random_weights(outputs, width, form, dtype, DEVICE, seed, group=32)
    # fp16 ends at 2**16, and has fewer digits below 2**-14.
    x = random_tokens(tokens, width, dtype, DEVICE, seed) * 2.0 ** (
        exponent % 6 if dtype == torch.float16 else exponent
    )
    if zero is not None:
        x[-1] = zero
    x = laid_out(x, layout)
    norm = random_tokens(1, width, dtype, DEVICE, seed + 1)[0] / 4 + 1
    residual = random_tokens(tokens, outputs, dtype, DEVICE, seed + 2)
    beside = [
        None if each is None else moved(each, at)
        for each, at in zip((values, scale, norm, residual), offsets, strict=True)
    ]
    y = decode_linear(
        x,
        *beside[:2],
        norm=beside[2],
        residual=beside[3],
        out_dtype=torch.float32,
        config=config_for(tokens, seed),
    )
    expected = decode_linear_reference(x, values, scale, norm=norm, residual=residual)
    error = (y.double() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error <= (2e-6 if tokens == 1 else 2 * ROUNDING[dtype])
    if zero is not None and layout != "repeated":
        assert torch.equal(y[-1], residual[-1].float())


#: What may hold a number that is not finite: of activations, or of one output of the weights.
PARTS = ["x", "values", "scale", "norm", "residual"]


@pytest.mark.parametrize("tokens", [1, 3])
@examples
@given(
    st.sampled_from(PARTS),
    st.sampled_from(FLOATS),
    st.sampled_from(FORMATS),
    st.booleans(),
    st.sampled_from([None, INT8, FP8]),
    st.sampled_from([torch.nan, torch.inf]),
    st.data(),
    seeds,
)
def test_what_is_not_finite_stays_with_its_token_and_output(
    tokens: int,
    part: str,
    dtype: torch.dtype,
    form: Format,
    gated: bool,
    codes: torch.dtype | None,
    value: float,
    data: st.DataObject,
    seed: int,
) -> None:
    """And shows there; all else keeps its bits. Of the norm's weights it shows everywhere."""
    width, outputs = 64, 9
    weights, scale = random_weights(2 * outputs if gated else outputs, width, form, dtype, DEVICE, seed, group=32)
    norm = random_tokens(1, width, dtype, DEVICE, seed + 1)[0] / 4 + 1
    tensors = {
        "x": random_tokens(tokens, width, dtype, DEVICE, seed),
        "values": weights,
        "scale": scale,
        "norm": norm,
        "residual": random_tokens(tokens, outputs, dtype, DEVICE, seed + 2),
    }
    options = {"gated": gated, "codes": codes, "out_dtype": torch.float32, "config": config_for(tokens, seed)}
    clean = decode_linear(**tensors, **options)
    # Codes of integers are finite, and weights of x's type have no scale.
    if part == "values" and form in ("int8", "int4"):
        part = "scale"
    if part == "scale" and scale is None:
        part = "values"
    damaged = tensors[part]
    place = tuple(data.draw(st.integers(0, size - 1)) for size in damaged.shape)
    if part == "scale" and form == "int4":
        # The scale is the lower half of a word, in fp16, and the zero point the upper one.
        bits = torch.tensor(value, dtype=torch.float16).view(torch.int16).item() & 0xFFFF
        damaged[place] = damaged[place] >> 16 << 16 | bits
    else:
        # FP8 e4m3 has no infinity.
        damaged[place] = torch.nan if damaged.dtype == FP8 else value
    found = decode_linear(**tensors, **options)

    touched = torch.zeros_like(clean, dtype=torch.bool)
    if part in ("values", "scale"):
        touched[:, place[0] % outputs] = True
    else:
        touched[{"x": place[:1], "norm": (), "residual": place}[part]] = True
    assert not found[touched].isfinite().any()
    assert torch.equal(found[~touched], clean[~touched])


@pytest.mark.parametrize("part", ["values", "scale", "norm", "residual"])
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_strides_of_weights_are_refused(form: Format, part: str) -> None:
    """Rather than copied at every token; those of activations are copied."""
    values, scale = random_weights(4, 256, form, torch.float32, DEVICE)
    tensors = {"values": values, "scale": scale, "norm": torch.ones(256), "residual": torch.ones(2, 4)}
    tensors = {name: tensor.to(DEVICE) for name, tensor in tensors.items()}
    tensors[part] = torch.stack([tensors[part]] * 2, dim=-1)[..., 0]
    with pytest.raises(ValueError, match=f"decode_linear: {part} must be .*, contiguous.* with strides"):
        decode_linear(torch.zeros(2, 256, device=DEVICE), **tensors)


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
