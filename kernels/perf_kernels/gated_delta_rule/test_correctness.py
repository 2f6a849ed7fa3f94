"""Do the references agree with each other, and with what is known of them?"""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.gated_delta_rule import (
    bytes_moved,
    chunked_reference,
    flops,
    gated_delta_rule,
    recurrent_reference,
)
from perf_kernels.gated_delta_rule.inputs import random_gated_heads
from perf_kernels.linear_attention import relative_rms
from perf_kernels.linear_attention.arguments import REFERENCE_TYPES
from perf_kernels.linear_attention.inputs import random_state
from perf_kernels.linear_attention.strategies import laid_out, layouts

FP64 = torch.float64
examples = settings.get_profile("perf_kernels")
seeds = st.integers(0, 2**31 - 1)
#: With the tokens of a chunk: what is not finite reaches those of them that come before it, too.
naive = st.sampled_from([("naive_recurrent", 1), ("naive_chunk", 64)])
shapes = st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 2), st.integers(1, 9), st.integers(1, 9))


@examples
@given(shapes, st.integers(1, 2), st.sampled_from([1, 4, 16, 64]), st.booleans(), st.booleans(), seeds)
def test_chunked_equals_recurrent(
    shape: tuple[int, ...], groups: int, chunk: int, normalize_qk: bool, carried: bool, seed: int
) -> None:
    batch, tokens, heads, keys, values = shape
    inputs = random_gated_heads(batch, tokens, heads, keys, values, heads * groups, FP64, seed=seed)
    q, k, *others = inputs
    # Longer keys would make the writes overshoot and the state grow without bound.
    inputs = (q, k / k.norm(dim=-1, keepdim=True), *others)
    state = random_state(batch, heads * groups, keys, values, seed=seed) if carried else None
    arguments = {"initial_state": state, "output_final_state": True, "normalize_qk": normalize_qk, "dtype": FP64}
    output, final = chunked_reference(*inputs, **arguments, chunk=chunk)
    expected, expected_final = recurrent_reference(*inputs, **arguments)
    assert output.shape == (batch, tokens, heads * groups, values)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(final, expected_final, rtol=1e-9, atol=1e-9)


@examples
@given(shapes, st.sampled_from(["naive_chunk", "naive_recurrent"]), st.data(), seeds)
def test_split_with_carried_state_equals_whole(
    shape: tuple[int, ...], implementation: str, data: st.DataObject, seed: int
) -> None:
    batch, tokens, heads, keys, values = shape
    cut = data.draw(st.integers(0, tokens))
    inputs = random_gated_heads(batch, tokens, heads, keys, values, dtype=torch.float32, seed=seed)
    options = {"implementation": implementation, "output_final_state": True, "normalize_qk": True}
    whole = gated_delta_rule(*inputs, **options)
    first = gated_delta_rule(*(x[:, :cut] for x in inputs), **options)
    second = gated_delta_rule(*(x[:, cut:] for x in inputs), **options, initial_state=first.final_state)
    both = torch.cat([first.output, second.output], dim=1)
    torch.testing.assert_close(both, whole.output, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second.final_state, whole.final_state, rtol=1e-4, atol=1e-5)


def strided(inputs: tuple[torch.Tensor, ...], layout: str) -> list[torch.Tensor]:
    """Lay out q, k and v [B, T, H, D], and g and beta [B, T, H], amid NaN."""
    return [laid_out(x, layout) if x.ndim == 4 else laid_out(x[..., None], layout)[..., 0] for x in inputs]


@examples
@given(
    st.sampled_from(REFERENCE_TYPES),
    st.tuples(st.integers(0, 2), st.integers(0, 70), st.integers(1, 2), st.integers(1, 9), st.integers(0, 9)),
    st.integers(1, 3),
    naive,
    st.booleans(),
    st.booleans(),
    layouts,
    seeds,
)
def test_types_and_strides(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    groups: int,
    implementation: tuple[str, int],
    normalize_qk: bool,
    carried: bool,
    layout: str,
    seed: int,
) -> None:
    """Computed in fp32, or in fp64 for such inputs, and rounded once; nothing and one token, too."""
    batch, tokens, heads, keys, values = shape
    q, k, *others = random_gated_heads(batch, tokens, heads, keys, values, heads * groups, dtype, seed=seed)
    inputs = (q, torch.nn.functional.normalize(k, dim=-1), *others)
    state = random_state(batch, heads * groups, keys, values, seed=seed) if carried else None
    options = {"output_final_state": True, "normalize_qk": normalize_qk}
    exact, exact_state = recurrent_reference(*inputs, initial_state=state, **options, dtype=FP64)
    given = None if state is None else laid_out(state, layout)
    result = gated_delta_rule(
        *strided(inputs, layout), implementation=implementation[0], initial_state=given, **options
    )
    assert (result.output.shape, result.output.dtype) == ((batch, tokens, heads * groups, values), dtype)
    computed = FP64 if dtype == FP64 else torch.float32
    assert result.final_state.dtype == computed
    # Sums of up to 70 terms, and the rounding of what comes out.
    error = 100 * torch.finfo(computed).eps
    assert relative_rms(result.output, exact) <= error + torch.finfo(dtype).eps
    assert relative_rms(result.final_state, exact_state) <= error


@examples
@given(st.sampled_from(REFERENCE_TYPES), naive, st.data(), seeds)
def test_zeros_denormals_and_huge_values(
    dtype: torch.dtype, implementation: tuple[str, int], data: st.DataObject, seed: int
) -> None:
    """They give what they give in fp64: no length of 0 is divided by, and nothing overflows."""
    limits = torch.finfo(dtype)
    tiny = limits.smallest_normal * limits.eps
    # Room for the sum of three, and for squares in fp64.
    huge = min(limits.max / 16, 2.0**107)
    inputs = random_gated_heads(2, 20, 2, 8, 5, dtype=dtype, seed=seed)
    for x, specials in zip(inputs[:3], ((0.0, -0.0, tiny), (0.0, -0.0, tiny), (0.0, -0.0, tiny, huge)), strict=True):
        for _ in range(data.draw(st.integers(0, 3))):
            at = [data.draw(st.integers(0, size - 1)) for size in x.shape[:3]]
            x[tuple(at)] = data.draw(st.sampled_from(specials))
    result = gated_delta_rule(*inputs, implementation=implementation[0], output_final_state=True, normalize_qk=True)
    exact, exact_state = recurrent_reference(*inputs, output_final_state=True, normalize_qk=True, dtype=FP64)
    computed = torch.finfo(result.final_state.dtype)
    assert relative_rms(result.output, exact) <= 100 * computed.eps + limits.eps
    assert relative_rms(result.final_state, exact_state) <= 100 * computed.eps


@examples
@given(
    st.sampled_from(["q", "k", "v", "g", "beta", "initial_state"]),
    st.sampled_from([torch.nan, torch.inf, -torch.inf]),
    naive,
    st.booleans(),
    st.data(),
    seeds,
)
def test_what_is_not_finite_stays_in_its_head_and_goes_on(
    name: str, value: float, implementation: tuple[str, int], normalize_qk: bool, data: st.DataObject, seed: int
) -> None:
    """Into later tokens, from q into its own alone; from v into its own column. Everything else keeps its bits."""
    batch, tokens, heads, groups, keys, values = 2, 140, 2, 2, 4, 3
    q, k, *others = random_gated_heads(batch, tokens, heads, keys, values, heads * groups, torch.float32, seed=seed)
    state = random_state(batch, heads * groups, keys, values, seed=seed)
    inputs = (q, torch.nn.functional.normalize(k, dim=-1), *others, state)
    arguments = dict(zip(["q", "k", "v", "g", "beta", "initial_state"], inputs, strict=True))
    which, chunk = implementation
    options = {"implementation": which, "normalize_qk": normalize_qk, "output_final_state": True}
    clean = gated_delta_rule(**arguments, **options)
    if name == "g":
        # A decay may be 0, the logarithm of which is -inf: token by token that forgets, and nothing is damaged.
        value = abs(value)
    place = tuple(data.draw(st.integers(0, size - 1)) for size in arguments[name].shape)
    arguments[name][place] = value
    found = gated_delta_rule(**arguments, **options)

    touched = torch.zeros_like(clean.output, dtype=torch.bool)
    # Of the state [B, HV, K, V], the second index is a head and the first token is the next.
    in_batch, token, head = (place[0], 0, place[1]) if name == "initial_state" else place[:3]
    of_heads = slice(head * groups, (head + 1) * groups) if name in ("q", "k") else head
    of_tokens = token if name == "q" else slice(token, None)
    of_columns = place[3] if name in ("v", "initial_state") else slice(None)
    touched[in_batch, of_tokens, of_heads, of_columns] = True
    assert not found.output[touched].isfinite().any()
    # Products within a chunk have all its tokens as terms, earlier ones times 0.
    touched[in_batch, token // chunk * chunk : token, of_heads] = True
    assert torch.equal(found.output[~touched], clean.output[~touched])
    others = torch.ones_like(clean.final_state, dtype=torch.bool)
    others[in_batch, of_heads] = name == "q"
    assert torch.equal(found.final_state[others], clean.final_state[others])


@examples
@given(st.permutations(range(4)), seeds)
def test_batch_permutation(order: list[int], seed: int) -> None:
    inputs = random_gated_heads(4, 20, 2, 8, dtype=torch.float32, seed=seed)
    output = gated_delta_rule(*inputs, normalize_qk=True).output
    permuted = gated_delta_rule(*(x[order] for x in inputs), normalize_qk=True).output
    torch.testing.assert_close(permuted, output[order], rtol=1e-5, atol=1e-6)


def test_known_values() -> None:
    # One head, K = V = 1: S = 0.5 * 4 = 2; u = 0.25 (10 - 2 * 3) = 1; S = 2 + 3 * 1 = 5; o = 5 * 7 * scale.
    q, k, v = (torch.full((1, 1, 1, 1), number) for number in (7.0, 3.0, 10.0))
    g, beta = torch.full((1, 1, 1), math.log(0.5)), torch.full((1, 1, 1), 0.25)
    for reference in (recurrent_reference, chunked_reference):
        output, state = reference(q, k, v, g, beta, 2.0, torch.full((1, 1, 1, 1), 4.0), True, dtype=FP64)
        torch.testing.assert_close(output.item(), 70.0)
        torch.testing.assert_close(state.item(), 5.0)


def test_without_gates_a_key_is_overwritten() -> None:
    # beta = 1 and g = 0: after a write, reading the same key gives the value that was written last.
    _, k, v, g, beta = random_gated_heads(1, 12, 1, 4, dtype=FP64, seed=1)
    k = torch.nn.functional.normalize(k, dim=-1)
    output, _ = chunked_reference(k, k, v, torch.zeros_like(g), torch.ones_like(beta), scale=1.0, chunk=4, dtype=FP64)
    torch.testing.assert_close(output, v)


def test_strong_decay_does_not_overflow() -> None:
    q, k, v, _, beta = random_gated_heads(1, 64, 1, 4, dtype=torch.float32)
    g = torch.full((1, 64, 1), -50.0)
    output, _ = chunked_reference(q, k, v, g, beta, normalize_qk=True)
    expected, _ = recurrent_reference(q, k, v, g, beta, normalize_qk=True)
    assert output.isfinite().all()
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-6)


def test_gradients_of_the_references_agree() -> None:
    inputs = [x.requires_grad_() for x in random_gated_heads(1, 20, 1, 4, 3, 2, FP64)]
    found = []
    for reference, options in ((recurrent_reference, {}), (chunked_reference, {"chunk": 8})):
        output, _ = reference(*inputs, normalize_qk=True, dtype=FP64, **options)
        found.append(torch.autograd.grad(output.square().sum(), inputs))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_no_tokens() -> None:
    inputs = random_gated_heads(2, 0, 1, 4, 3, dtype=torch.float32)
    state = random_state(2, 1, 4, 3)
    for name in ("naive_chunk", "naive_recurrent"):
        result = gated_delta_rule(*inputs, implementation=name, initial_state=state, output_final_state=True)
        assert result.output.shape == (2, 0, 1, 3)
        assert torch.equal(result.final_state, state)


def test_work() -> None:
    assert bytes_moved(batch=2, tokens=3, heads=1, value_heads=2, keys=4, values=5, itemsize=2) == 6 * (30 * 2 + 8)
    assert flops(batch=2, tokens=3, value_heads=2, keys=4, values=5) == 7 * 6 * 2 * 20
