"""Does the kernel give what the references give: types, shapes, strides, launches, carried states and gradients?"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.abc
import inspect
import sys
import types
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.linear_attention import (
    IMPLEMENTATIONS,
    LaunchConfig,
    bytes_moved,
    chunk_linear_attention,
    chunked_reference,
    flops,
    launch_config,
    linear_attention,
    recurrent_reference,
    relative_rms,
)
from perf_kernels.linear_attention.inputs import random_heads, random_state
from perf_kernels.linear_attention.launch import power_of_two, shared_bytes
from perf_kernels.linear_attention.ops import _attend
from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE, INTERPRETED, Target

DEVICE = DEVICE_TYPE
FP64 = torch.float64
TYPES = [torch.bfloat16, torch.float16, torch.float32]
#: TF32 keeps 10 bits of a factor; the references multiply fp32 in full.
FLOOR = {torch.bfloat16: 1e-4, torch.float16: 1e-4, torch.float32: 1e-5 if INTERPRETED else 1e-3}

examples = settings.get_profile("perf_kernels")
few = settings(examples, max_examples=max(examples.max_examples // 5, 1))
seeds = st.integers(0, 2**31 - 1)
shapes = st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 2), st.integers(1, 33), st.integers(1, 33))
configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        chunk=st.sampled_from([16, 32]),
        value_block=st.sampled_from([16, 32]),
        segments=st.integers(1, 3),
        num_stages=st.sampled_from([1, 2]),
    ),
)
layouts = st.sampled_from(["contiguous", "heads first", "padded", "every other column", "packed"])


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Give a tensor equal to ``x`` [B, T, H, D] in value with the strides that ``layout`` names; NaN lies around it."""
    batch, tokens, heads, width = x.shape
    if layout == "heads first":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "contiguous":
        return x.contiguous()
    shape, columns = {
        "padded": ((batch, tokens + 1, heads + 1, width + 3), slice(3, None)),
        "every other column": ((batch, tokens, heads, 2 * width), slice(None, None, 2)),
        "packed": ((batch, tokens, 3 * heads, width), slice(None)),
    }[layout]
    view = torch.full(shape, torch.nan, dtype=x.dtype, device=x.device)[:, :tokens, :heads, columns]
    view.copy_(x)
    return view


def carried(state: Any, number: int) -> torch.Tensor:
    return state[number] if isinstance(state, tuple) else state


@examples
@given(st.sampled_from(TYPES), shapes, st.booleans(), st.booleans(), layouts, configs, seeds)
def test_within_twice_the_error_of_torch(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    normalize: bool,
    start: bool,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    """The oracle rule: fp64 judges the kernel and the same sums in torch, with factors rounded to the same type."""
    batch, tokens, heads, keys, values = shape
    inputs = random_heads(*shape, dtype, DEVICE, seed, positive=normalize)
    state = random_state(batch, heads, keys, values, DEVICE, seed, normalize=normalize) if start else None
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize}
    exact, exact_state = recurrent_reference(*inputs, **options, dtype=FP64)
    rounded, _ = chunked_reference(*inputs, **options, chunk=16, factors=dtype)

    output, final = chunk_linear_attention(*(laid_out(x, layout) for x in inputs), **options, config=config)

    assert output.shape == (batch, tokens, heads, values)
    assert output.dtype == dtype
    allowed = 2 * relative_rms(rounded.to(dtype), exact) + FLOOR[dtype]
    assert relative_rms(output, exact) <= min(allowed, 0.005)
    assert carried(final, 0).dtype == torch.float32
    for part in range(2 if normalize else 1):
        assert relative_rms(carried(final, part), carried(exact_state, part)) <= FLOOR[dtype]


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


@few
@given(st.booleans(), st.booleans(), configs, seeds)
def test_gradients(normalize: bool, start: bool, config: LaunchConfig | None, seed: int) -> None:
    batch, tokens, heads, keys, values = 1, 40, 2, 12, 20
    inputs = random_heads(batch, tokens, heads, keys, values, torch.bfloat16, DEVICE, seed, positive=normalize)
    state = random_state(batch, heads, keys, values, DEVICE, seed, normalize=normalize) if start else None
    leaves = list(inputs) + ([] if state is None else [*state] if normalize else [state])
    generator = torch.Generator(device=DEVICE).manual_seed(seed)
    weights = [
        torch.randn(shape, device=DEVICE, generator=generator)
        for shape in ((batch, tokens, heads, values), (batch, heads, keys, values), (batch, 1, heads, keys))
    ]

    def gradients(attend: Any, leaf_dtype: torch.dtype | None, **options: Any) -> tuple[torch.Tensor, ...]:
        ours = [leaf.detach().to(leaf_dtype or leaf.dtype).requires_grad_() for leaf in leaves]
        given = None if state is None else tuple(ours[3:]) if normalize else ours[3]
        if leaf_dtype is FP64 and given is not None:
            # A state is fp32 by its contract; the reference computes on in fp64.
            given = tuple(x.float() for x in given) if normalize else given.float()
        output, final = attend(*ours[:3], initial_state=given, output_final_state=True, normalize=normalize, **options)
        finals = final if normalize else (final,)
        loss = sum((x * weight).sum() for x, weight in zip((output, *finals), weights, strict=False))
        return torch.autograd.grad(loss, ours)

    found = gradients(chunk_linear_attention, None, config=config)
    expected = gradients(recurrent_reference, FP64, dtype=FP64)
    for name, one, other in zip(["q", "k", "v", "state", "key_sum"], found, expected, strict=False):
        assert relative_rms(one, other) <= 0.008, name


def test_gradients_of_the_state_alone() -> None:
    inputs = [x.requires_grad_() for x in random_heads(1, 20, 1, 16, dtype=torch.float32, device=DEVICE)]
    _, final = chunk_linear_attention(*inputs, output_final_state=True)
    dq, dk, dv = torch.autograd.grad(final.sum(), inputs, allow_unused=True)
    _, k, v = inputs
    assert dq is None or not dq.any()
    assert relative_rms(dk, v.sum(dim=-1, keepdim=True).expand_as(k)) <= FLOOR[torch.float32]
    assert relative_rms(dv, k.sum(dim=-1, keepdim=True).expand_as(v)) <= FLOOR[torch.float32]


def test_second_gradients() -> None:
    q, k, v = (x.requires_grad_() for x in random_heads(1, 20, 1, 16, dtype=torch.float32, device=DEVICE))

    def second(attend: Any) -> torch.Tensor:
        output, _ = attend(q, k, v)
        (dq,) = torch.autograd.grad(output.square().sum(), q, create_graph=True)
        (dk,) = torch.autograd.grad(dq.square().sum(), k)
        return dk

    assert relative_rms(second(chunk_linear_attention), second(recurrent_reference)) <= 10 * FLOOR[torch.float32]


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


def test_operator_is_registered_completely() -> None:
    q, k, v = (
        x.requires_grad_() for x in random_heads(1, 20, 1, 16, dtype=torch.float32, device=DEVICE, positive=True)
    )
    state, key_sum = random_state(1, 1, 16, 16, DEVICE, normalize=True)
    torch.library.opcheck(
        _attend,
        (q, k, v, 0.25, state, key_sum[:, 0], True, True, False, None),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_works_under_compile() -> None:
    inputs = random_heads(1, 20, 1, 16, dtype=torch.float32, device=DEVICE)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return chunk_linear_attention(q * 2, k, v)[0] + 1

    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*inputs), attend(*inputs))


def test_wrong_arguments() -> None:
    q, k, v = random_heads(2, 3, 2, 16, 8, device=DEVICE)
    where = str(q.device)
    wide = torch.zeros(1, 1, 1, 257, device=DEVICE)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        (
            {"q": q.double()},
            TypeError,
            "q is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32",
        ),
        ({"k": k.half()}, TypeError, "k is torch.float16 and q is torch.bfloat16; they must be of one type"),
        ({"v": v[0]}, ValueError, "v has 3 dimensions; it must have 4: batch, tokens, heads and width"),
        ({"k": k[:, :2]}, ValueError, "k is [2, 2, 2, 16]; it must be [2, 3, 2, 16], as q is"),
        ({"v": v[:, :, :1]}, ValueError, "v is [2, 3, 1, 8]; it must be [2, 3, 2, any width]"),
        ({"q": wide, "k": wide, "v": wide}, ValueError, "keys are 257 wide; at most 256 are supported"),
        (
            {"q": wide[..., :0], "k": wide[..., :0], "v": wide},
            ValueError,
            "q is [1, 1, 1, 0]; keys must be at least 1 wide",
        ),
        ({"scale": 0}, ValueError, "scale is 0; gradients divide by it"),
        (
            {"initial_state": torch.zeros(2, 2, 16, 9, device=DEVICE)},
            ValueError,
            f"initial_state is [2, 2, 16, 9] torch.float32 on {where}; "
            f"it must be [2, 2, 16, 8] torch.float32 on {where}",
        ),
        (
            {"initial_state": torch.zeros(2, 2, 16, 8, device=DEVICE), "normalize": True},
            TypeError,
            "initial_state is one tensor; with normalize=True it must be a tuple of the state and the sum of keys",
        ),
        (
            {"initial_state": (q, k)},
            TypeError,
            "initial_state is tuple; with normalize=False it must be one tensor",
        ),
        (
            {"q": q.to("meta"), "k": k.to("meta"), "v": v.to("meta")},
            ValueError,
            f"q is on meta; {DEVICE_HINT}",
        ),
        ({"k": k.to("meta")}, ValueError, f"k is on meta and q on {where}; they must be on one device"),
    ]
    for changed, error, message in wrong:
        with pytest.raises(error) as caught:
            chunk_linear_attention(**{"q": q, "k": k, "v": v, **changed})
        assert str(caught.value) == f"chunk_linear_attention: {message}"


TARGETS = [
    Target("cuda", 80, 32),
    Target("cuda", 89, 32),
    Target("cuda", 90, 32),
    Target("cuda", 100, 32),
    Target("cuda", 120, 32),
    Target("hip", "gfx942", 64),
    Target("hip", "gfx1100", 32),
    Target("interpreter", 0, 32),
]


@examples
@given(
    st.integers(1, 64),
    st.integers(1, 2**18),
    st.integers(1, 64),
    st.integers(1, 256),
    st.integers(1, 256),
    st.sampled_from([2, 4]),
    st.booleans(),
    st.sampled_from(TARGETS),
)
def test_launch_fits(
    batch: int, tokens: int, heads: int, keys: int, values: int, itemsize: int, normalize: bool, target: Target
) -> None:
    config = launch_config(batch, tokens, heads, keys, values, itemsize, normalize, target)
    for size in (config.chunk, config.value_block):
        assert 16 <= size == power_of_two(size) <= 64
    assert config.num_warps in (4, 8)
    assert 1 <= config.num_stages <= 3
    limit = 65_536 if target.backend == "hip" else {80: 166_912, 90: 232_448, 100: 232_448}.get(target.arch, 101_376)
    if target.backend != "interpreter":
        assert shared_bytes(config.chunk, config.value_block, keys, itemsize, 1) <= limit
    used, size = config.used_segments(tokens), config.segment_chunks(tokens)
    assert 1 <= used <= config.segments <= 32
    # No segment is empty, and together they cover the sequence.
    assert (used - 1) * size < config.chunks(tokens) <= used * size


def test_launches_on_the_h200() -> None:
    target = Target("cuda", 90, 32)
    full = launch_config(8, 4096, 8, 128, 128, 2, False, target)
    assert full == LaunchConfig(chunk=64, value_block=64, segments=1, num_warps=4, num_stages=3)
    # 16 programs would leave most of 132 multiprocessors idle; two of 16 segments' share one.
    long = launch_config(1, 32768, 8, 128, 128, 2, False, target)
    assert dataclasses.replace(long, segments=16) == LaunchConfig(64, 64, 16, 4, 2)
    assert long.segments == 16


def test_work() -> None:
    assert bytes_moved(batch=2, tokens=3, heads=4, keys=5, values=6, itemsize=2) == 24 * 22 * 2
    assert flops(batch=2, tokens=3, heads=4, keys=5, values=6) == 24 * 4 * 30


@pytest.mark.parametrize("name", [name for name in IMPLEMENTATIONS if not name.startswith("fla_")])
@pytest.mark.parametrize("normalize", [False, True])
def test_implementations_agree(name: str, normalize: bool) -> None:
    inputs = random_heads(1, 20, 2, 16, 8, torch.float32, DEVICE, positive=normalize)
    state = random_state(1, 2, 16, 8, DEVICE, normalize=normalize)
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize}
    result = linear_attention(*inputs, implementation=name, **options)
    expected, expected_state = recurrent_reference(*inputs, **options, dtype=FP64)
    assert result.implementation == name
    assert relative_rms(result.output, expected) <= FLOOR[torch.float32]
    assert relative_rms(carried(result.final_state, 0), carried(expected_state, 0)) <= FLOOR[torch.float32]


@pytest.fixture(scope="module")
def fla() -> Any:
    pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")
    with warnings.catch_warnings():
        # Without a GPU fla warns that it found none.
        warnings.simplefilter("ignore")
        importlib.import_module("fla.ops.linear_attn.naive")
        return importlib.import_module("fla.ops.linear_attn")


@pytest.mark.parametrize("normalize", [False, True])
def test_references_agree_with_those_of_fla(fla: Any, normalize: bool) -> None:
    inputs = random_heads(2, 128, 2, 8, 5, torch.float32, seed=3, positive=normalize)
    state = random_state(2, 2, 8, 5, normalize=normalize)
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize}
    expected = fla.naive.naive_recurrent_linear_attn(*inputs, **options)
    for reference in (recurrent_reference, chunked_reference):
        torch.testing.assert_close(reference(*inputs, **options), expected, rtol=1e-4, atol=1e-4)
    # fla's chunked one takes neither a state nor a ragged length; it scales q in place of the scores.
    expected = fla.naive.naive_chunk_linear_attn(*inputs, normalize=normalize)
    torch.testing.assert_close(chunked_reference(*inputs, normalize=normalize)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["chunk", "fused_chunk", "fused_recurrent"])
def test_calls_bind_to_the_functions_of_fla(fla: Any, name: str) -> None:
    parameters = inspect.signature(getattr(fla, f"{name}_linear_attn")).parameters
    assert list(parameters)[:3] == ["q", "k", "v"]
    assert {"scale", "initial_state", "output_final_state", "normalize"} <= set(parameters)


@pytest.mark.parametrize("name", ["fla_chunk", "fla_fused_chunk", "fla_fused_recurrent"])
def test_arguments_that_fla_gets(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from perf_kernels.linear_attention import implementations

    seen: list[Any] = []

    def record(*arguments: Any, **options: Any) -> tuple[torch.Tensor, Any]:
        seen.extend([arguments, options])
        return arguments[2].float(), (None, "sum of keys")

    module = types.ModuleType("fla.ops.linear_attn")
    setattr(module, f"{name.removeprefix('fla_')}_linear_attn", record)
    monkeypatch.setitem(sys.modules, "fla.ops.linear_attn", module)
    monkeypatch.setattr(implementations, "require_gpu", lambda *_: None)
    q, k, v = random_heads(1, 3, 1, 16)
    result = linear_attention(q, k, v, implementation=name, normalize=True)
    assert (result.implementation, result.final_state, result.output.dtype) == (name, None, torch.bfloat16)
    assert all(one is other for one, other in zip(seen[0], (q, k, v), strict=True))
    assert seen[1] == {"scale": 0.25, "initial_state": None, "output_final_state": False, "normalize": True}


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU the default is fla's")
def test_default_on_a_cpu_is_reported() -> None:
    assert linear_attention(*random_heads(1, 3, 1, 16)).implementation == "naive_chunk"


def test_fla_on_a_cpu() -> None:
    with pytest.raises(ValueError) as caught:
        linear_attention(*random_heads(1, 3, 1, 16), implementation="fla_fused_chunk")
    assert str(caught.value) == (
        "linear_attention: fla_fused_chunk runs on a GPU, and q is on cpu\n"
        "hint: on a CPU choose naive_chunk or naive_recurrent"
    )


def test_unknown_implementation() -> None:
    with pytest.raises(ValueError) as caught:
        linear_attention(*random_heads(1, 3, 1, 16), implementation="flash")
    assert str(caught.value) == (
        "linear_attention: implementation is 'flash'; it must be one of chunk, fla_chunk, fla_fused_chunk, "
        "fla_fused_recurrent, naive_chunk, naive_recurrent"
    )


@pytest.mark.parametrize("missing", ["fla", "einops"])
def test_fla_missing(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    from perf_kernels.linear_attention import implementations

    class Hidden(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "fla.ops.linear_attn" or name == "fla":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    for name in [name for name in sys.modules if name.split(".")[0] == "fla"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    monkeypatch.setattr(implementations, "require_gpu", lambda *_: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        linear_attention(*random_heads(1, 3, 1, 16), implementation="fla_chunk")
    assert str(caught.value) == (
        f"linear_attention: implementation 'fla_chunk' needs fla, and {missing} is not installed\n"
        "hint: pip install fla-core, or choose another implementation"
    )


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["chunk", "fla_chunk", "fla_fused_chunk", "fla_fused_recurrent"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("shape", [(8, 1024, 8, 128, 128), (1, 5000, 2, 128, 64), (2, 300, 4, 64, 128)], ids=str)
def test_kernels_equal_the_reference(shape: tuple[int, ...], normalize: bool, name: str) -> None:
    if name.startswith("fla_"):
        pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")
    batch, _, heads, keys, values = shape
    inputs = random_heads(*shape, torch.bfloat16, "cuda", seed=6, positive=normalize)
    state = random_state(batch, heads, keys, values, "cuda", normalize=normalize)
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize}
    result = linear_attention(*inputs, implementation=name, **options)
    expected, expected_state = chunked_reference(*inputs, **options, dtype=FP64)
    # fla sums the keys up in bf16.
    assert relative_rms(result.output, expected) <= (0.02 if normalize and name.startswith("fla_") else 0.005)
    assert relative_rms(carried(result.final_state, 0), carried(expected_state, 0)) <= 0.005


@pytest.mark.cuda
@pytest.mark.parametrize("normalize", [False, True])
def test_gradients_at_a_real_size(normalize: bool) -> None:
    inputs = random_heads(2, 2000, 4, 128, dtype=torch.bfloat16, device="cuda", seed=7, positive=normalize)
    weight = torch.randn((2, 2000, 4, 128), device="cuda")
    found, expected = (
        torch.autograd.grad((attend(*leaves, normalize=normalize, **options)[0] * weight).sum(), leaves)
        for attend, leaves, options in (
            (chunk_linear_attention, [x.detach().requires_grad_() for x in inputs], {}),
            (chunked_reference, [x.double().requires_grad_() for x in inputs], {"dtype": FP64}),
        )
    )
    for name, one, other in zip("qkv", found, expected, strict=True):
        assert relative_rms(one, other) <= 0.008, name
