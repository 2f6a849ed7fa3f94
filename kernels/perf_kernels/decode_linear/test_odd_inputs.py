"""May tensors lie anywhere and have any size, and do numbers that are not finite stay where they belong?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.decode_linear import decode_linear, decode_linear_reference
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
    seeds,
)
from perf_kernels.row_tests import laid_out, layouts
from perf_kernels.undeclared_tests import any_parts_of_a_layer, narrow_layer

pytestmark = [narrow_layer, any_parts_of_a_layer]


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
