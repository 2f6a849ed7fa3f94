"""Does the kernel give what the references give: types, shapes, strides, launches and carried states?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from perf_kernels.linear_attention import (
    LaunchConfig,
    chunk_linear_attention,
    chunked_reference,
    recurrent_reference,
    relative_rms,
)
from perf_kernels.linear_attention.inputs import random_heads, random_state
from perf_kernels.linear_attention.oracle import FLOOR, relative_error, uncancelled
from perf_kernels.linear_attention.strategies import (
    DEVICE,
    FP64,
    TYPES,
    carried,
    configs,
    cuts,
    examples,
    few,
    half,
    laid_out,
    layouts,
    seeds,
    shapes,
)
from perf_kernels.undeclared_tests import any_layout_of_tokens, any_state, any_type_of_tokens, few_tokens

pytestmark = few_tokens


@any_state
@any_type_of_tokens
@examples
@given(st.sampled_from(TYPES), shapes, st.booleans(), st.booleans(), layouts, configs, seeds)
# On a GPU one state, a sum that cancels to a hundredth of what it sums up.
@example(torch.float32, (1, 35, 1, 1, 1), False, False, "contiguous", None, 0)
def test_within_twice_the_error_of_torch(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    normalize: bool,
    start: bool,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    """The oracle rule: fp64 judges the kernel and the same sums in torch, with factors rounded to the same type.

    Errors are relative to what was summed up, which may cancel.
    """
    batch, tokens, heads, keys, values = shape
    inputs = random_heads(*shape, dtype, DEVICE, seed, positive=normalize)
    state = random_state(batch, heads, keys, values, DEVICE, seed, normalize=normalize) if start else None
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize}
    exact, exact_state = recurrent_reference(*inputs, **options, dtype=FP64)
    rounded, _ = chunked_reference(*inputs, **options, chunk=16, factors=dtype)

    output, final = chunk_linear_attention(*(laid_out(x, layout) for x in inputs), **options, config=config)

    assert output.shape == (batch, tokens, heads, values)
    assert output.dtype == dtype
    size, state_size = uncancelled(*inputs, initial_state=state, normalize=normalize)
    allowed = 2 * relative_error(rounded.to(dtype), exact, size) + FLOOR[dtype]
    assert relative_error(output, exact, size) <= min(allowed, 0.005)
    assert carried(final, 0).dtype == torch.float32
    assert relative_error(carried(final, 0), carried(exact_state, 0), state_size) <= FLOOR[dtype]
    if normalize:
        assert relative_rms(carried(final, 1), carried(exact_state, 1)) <= FLOOR[dtype]


@examples
@given(shapes, st.sampled_from([1, 5, 16, 64]), st.booleans(), st.booleans(), seeds)
def test_chunked_reference_equals_recurrent(
    shape: tuple[int, ...], chunk: int, normalize: bool, start: bool, seed: int
) -> None:
    batch, _, heads, keys, values = shape
    inputs = random_heads(*shape, FP64, seed=seed, positive=normalize)
    state = random_state(batch, heads, keys, values, seed=seed, normalize=normalize) if start else None
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize, "dtype": FP64}
    found = chunked_reference(*inputs, **options, chunk=chunk)
    torch.testing.assert_close(found, recurrent_reference(*inputs, **options), rtol=1e-10, atol=1e-10)


@any_state
@any_type_of_tokens
@few
@given(st.sampled_from(TYPES), st.integers(1, 4), st.integers(1, 3), st.booleans(), seeds)
def test_split_at_a_chunk_with_carried_state_equals_whole(
    dtype: torch.dtype, before: int, after: int, normalize: bool, seed: int
) -> None:
    """Bit for bit: the state is carried in fp32, and the chunks are the same."""
    inputs = random_heads(1, 16 * before + 16 * after - 3, 2, 8, 20, dtype, DEVICE, seed, positive=normalize)
    options = {"output_final_state": True, "normalize": normalize, "config": LaunchConfig(16, 16)}
    whole, final = chunk_linear_attention(*inputs, **options)
    cut = 16 * before
    first, between = chunk_linear_attention(*(x[:, :cut] for x in inputs), **options)
    second, end = chunk_linear_attention(*(x[:, cut:] for x in inputs), initial_state=between, **options)
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, final, rtol=0, atol=0)


@any_state
@any_type_of_tokens
@few
@given(st.integers(1, 60), st.integers(0, 60), configs, seeds)
def test_split_anywhere_equals_whole(tokens: int, cut: int, config: LaunchConfig | None, seed: int) -> None:
    inputs = random_heads(1, tokens, 1, 16, dtype=torch.float32, device=DEVICE, seed=seed)
    cut = min(cut, tokens)
    whole, final = chunk_linear_attention(*inputs, output_final_state=True, config=config)
    first, between = chunk_linear_attention(*(x[:, :cut] for x in inputs), output_final_state=True, config=config)
    second, end = chunk_linear_attention(
        *(x[:, cut:] for x in inputs), initial_state=between, output_final_state=True, config=config
    )
    assert relative_rms(torch.cat([first, second], dim=1), whole) <= FLOOR[torch.float32]
    assert relative_rms(end, final) <= FLOOR[torch.float32]


@any_layout_of_tokens
@few
@given(st.permutations(range(3)), layouts, configs, seeds)
def test_a_head_does_not_depend_on_its_position(
    order: list[int], layout: str, config: LaunchConfig | None, seed: int
) -> None:
    """Batch, heads and strides may change: the bits of a head's outputs do not."""
    inputs = random_heads(3, 40, 1, 12, 20, device=DEVICE, seed=seed)
    output, _ = chunk_linear_attention(*inputs, config=config)
    permuted, _ = chunk_linear_attention(*(laid_out(x[order], layout) for x in inputs), config=config)
    assert torch.equal(permuted, output[order])
    as_heads, _ = chunk_linear_attention(*(laid_out(x.permute(2, 1, 0, 3), layout) for x in inputs), config=config)
    assert torch.equal(as_heads.permute(2, 1, 0, 3), output)


@pytest.mark.parametrize("normalize", [False, True])
def test_every_output_is_written(normalize: bool) -> None:
    """Memory that is taken but not written, or read before it is written, holds NaN here."""
    inputs = random_heads(2, 50, 1, 20, 40, device=DEVICE, positive=normalize)
    expected, _ = chunked_reference(*inputs, normalize=normalize)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory
        output, final = chunk_linear_attention(
            *inputs, output_final_state=True, normalize=normalize, config=LaunchConfig(16, 16, 3)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert relative_rms(output, expected) <= 0.005
    assert all(part.isfinite().all() for part in (final if normalize else [final]))


def test_a_future_token_changes_nothing() -> None:
    q, k, v = random_heads(1, 40, 1, 16, device=DEVICE)
    before, _ = chunk_linear_attention(q, k, v, config=LaunchConfig(16, 16, 2))
    for x in (q, k, v):
        x[:, 25:] = torch.nan
    after, _ = chunk_linear_attention(q, k, v, config=LaunchConfig(16, 16, 2))
    # Within the chunk of the first NaN, 0 * NaN spreads it over earlier tokens; chunks before are untouched.
    assert torch.equal(after[:, :16], before[:, :16])
    q, k, v = random_heads(1, 40, 1, 16, device=DEVICE)
    v[:, 25:] *= 3
    after, _ = chunk_linear_attention(q, k, v, config=LaunchConfig(16, 16, 2))
    assert torch.equal(after[:, :25], before[:, :25])


@any_type_of_tokens
@half
@given(
    st.sampled_from(TYPES),
    st.sampled_from(["q", "k", "v", "state"]),
    st.sampled_from([torch.nan, torch.inf, -torch.inf]),
    st.booleans(),
    cuts,
    st.data(),
    seeds,
)
def test_what_is_not_finite_stays_in_its_head_and_goes_on(
    dtype: torch.dtype, name: str, value: float, normalize: bool, config: LaunchConfig, data: st.DataObject, seed: int
) -> None:
    """Into later tokens, from q into its own alone; from v into its own column. Everything else keeps its bits."""
    batch, tokens, heads, keys, values = 2, 40, 2, 5, 7
    inputs = random_heads(batch, tokens, heads, keys, values, dtype, DEVICE, seed, positive=normalize)
    state = random_state(batch, heads, keys, values, DEVICE, seed, normalize=normalize)
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize, "config": config}
    clean, clean_state = chunk_linear_attention(*inputs, **options)
    damaged = carried(state, 0) if name == "state" else inputs["qkv".index(name)]
    place = tuple(data.draw(st.integers(0, size - 1)) for size in damaged.shape)
    damaged[place] = value
    found, found_state = chunk_linear_attention(*inputs, **options)

    touched = torch.zeros_like(clean, dtype=torch.bool)
    # Of the state [B, H, K, V], the second index is a head and the first token is the next.
    in_batch, token, head = (place[0], 0, place[1]) if name == "state" else place[:3]
    of_columns = place[3] if name in ("v", "state") else slice(None)
    touched[in_batch, token if name == "q" else slice(token, None), head, of_columns] = True
    assert not found[touched].isfinite().any()
    if name == "v":
        # Tokens of a chunk meet all its values, later ones with scores of 0.
        touched[in_batch, token // config.chunk * config.chunk : token, head, of_columns] = True
    assert torch.equal(found[~touched], clean[~touched])
    for part in range(2 if normalize else 1):
        others = torch.ones_like(carried(clean_state, part), dtype=torch.bool)
        # [B, H, K, V], and sums of keys [B, 1, H, K].
        others[(in_batch, head) if part == 0 else (in_batch, 0, head)] = name == "q"
        assert torch.equal(carried(found_state, part)[others], carried(clean_state, part)[others])


@any_state
@any_type_of_tokens
@few
@given(
    # Of fp16, small outputs would be denormals, which have fewer digits.
    st.sampled_from([torch.bfloat16, torch.float32]),
    st.integers(-60, 60),
    st.sampled_from([0.0, -0.0]),
    st.integers(0, 39),
    st.booleans(),
    cuts,
    seeds,
)
def test_tiny_and_huge_values(
    dtype: torch.dtype, exponent: int, zero: float, token: int, normalize: bool, config: LaunchConfig, seed: int
) -> None:
    """Bit for bit: a power of two comes out as it went in, and a key of zeros takes in nothing of any value."""
    q, k, v = random_heads(1, 40, 2, 5, 7, dtype, DEVICE, seed, positive=normalize)
    k[:, token], v[:, token] = zero, 0.0
    options = {"output_final_state": True, "normalize": normalize, "config": config}
    expected, expected_state = chunk_linear_attention(q, k, v, **options)
    v *= 2.0**exponent
    v[:, token] = torch.finfo(dtype).max / 2
    found, found_state = chunk_linear_attention(q, k, v, **options)
    assert torch.equal(found, expected * 2.0**exponent)
    assert torch.equal(carried(found_state, 0), carried(expected_state, 0) * 2.0**exponent)


@any_state
@any_type_of_tokens
def test_known_values() -> None:
    # One key of ones: the state counts, and the normalised form takes the mean of the values so far.
    q = k = torch.ones(1, 5, 1, 1, device=DEVICE)
    v = torch.tensor([2.0, 4.0, 6.0, 8.0, 10.0], device=DEVICE).view(1, 5, 1, 1)
    output, state = chunk_linear_attention(q, k, v, scale=0.5, output_final_state=True)
    assert output.flatten().tolist() == [1.0, 3.0, 6.0, 10.0, 15.0]
    assert state.flatten().tolist() == [30.0]
    output, (state, key_sum) = chunk_linear_attention(q, k, v, output_final_state=True, normalize=True)
    assert output.flatten().tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert (state.flatten().tolist(), key_sum.flatten().tolist()) == ([30.0], [5.0])


@pytest.mark.parametrize("shape", [(0, 5, 1, 4, 4), (2, 0, 1, 4, 4), (2, 5, 0, 4, 4), (2, 5, 1, 4, 0)], ids=str)
def test_nothing_to_do(shape: tuple[int, ...]) -> None:
    batch, tokens, heads, keys, values = shape
    state = random_state(batch, heads, keys, values, DEVICE)
    output, final = chunk_linear_attention(
        *random_heads(*shape, device=DEVICE), initial_state=state, output_final_state=True
    )
    assert output.shape == (batch, tokens, heads, values)
    assert torch.equal(final, state)
