"""Do odd numbers stay where they belong, and may tensors begin anywhere? Of strides a step takes none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from perf_kernels.decode_attention import LaunchConfig, decode_attention, workspace_for
from perf_kernels.decode_attention.inputs import Step, random_step
from perf_kernels.decode_attention.reference import decode_attention_reference
from perf_kernels.decode_attention.step_tests import DEVICE, FLOATS, assert_equals_the_reference, examples, few
from perf_kernels.target import INTERPRETED
from perf_kernels.undeclared_tests import attention_in_fp32, narrow_heads

pytestmark = narrow_heads


#: By the name of the tensor, where one head of one sequence is drawn from.
PARTS = ["query", "key", "value", "keys", "values"]


def part_of(step: Step, part: str, heads: int, position: int) -> torch.Tensor:
    """Give a view of a part of a step, its dimensions being sequences, heads, and whatever else: new, or cached."""
    if part in ("keys", "values"):
        return getattr(step, part)[:, :, :position]
    _, kv_heads, _, width = step.keys.shape
    new = step.qkv.view(len(step.qkv), -1, width).split([heads, kv_heads, kv_heads], dim=1)
    return new[PARTS.index(part)]


@attention_in_fp32
@examples
@given(
    st.sampled_from(FLOATS),
    st.sampled_from(PARTS),
    st.sampled_from([torch.nan, torch.inf]),
    st.sampled_from([(1, 2), (2, 1)]),
    st.sampled_from([0, 2]),
    st.integers(1, 40),
    st.data(),
    st.integers(0, 2**31 - 1),
)
def test_what_is_not_finite_stays_with_its_heads(
    dtype: torch.dtype,
    part: str,
    value: float,
    shape: tuple[int, int],
    splits: int,
    position: int,
    data: st.DataObject,
    seed: int,
) -> None:
    """It shows where it does in the reference. Heads that do not look at it, and the rest of the cache, do not see it.

    Of values, neither do other columns.
    """
    (batch, kv_heads), group, width = shape, 3, 32
    clean = random_step(batch, kv_heads * group, kv_heads, width, 41, position, dtype, DEVICE, seed)
    step = Step(*(tensor.clone() for tensor in clean))
    damaged = part_of(step, part, kv_heads * group, position)
    place = tuple(data.draw(st.integers(0, size - 1)) for size in damaged.shape)
    damaged[place] = value
    shown, key, _ = decode_attention_reference(*step[:5], position, step.keys, step.values)
    config = LaunchConfig(16, num_warps=4, num_stages=2, splits=max(splits, 1))
    found, expected = (
        decode_attention(
            *each, workspace=workspace_for(each.keys, kv_heads * group) if splits else None, config=config
        ).view(batch, kv_heads, group, width)
        for each in (step, clean)
    )

    assert torch.equal(found.isfinite(), shown.view_as(found).isfinite())
    touched = torch.zeros_like(found, dtype=torch.bool)
    sequence, head = place[0], place[1] // group if part == "query" else place[1]
    of_queries = place[1] % group if part == "query" else slice(None)
    of_columns = place[-1] if part in ("value", "values") else slice(None)
    touched[sequence, head, of_queries, of_columns] = True
    assert torch.equal(found[~touched], expected[~touched])
    assert torch.equal(step.keys[:, :, position].isfinite(), key.isfinite())
    for cache, other in ((step.keys, clean.keys), (step.values, clean.values)):
        others = torch.ones_like(cache, dtype=torch.bool)
        others[sequence, head] = part == "query"
        others[:, :, position + 1 :] = False
        assert torch.equal(cache[others], other[others])


@attention_in_fp32
@few
@given(
    st.sampled_from(FLOATS),
    st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(["zero", "-zero", "tiny", "huge"])), max_size=4),
    st.booleans(),
    st.integers(1, 40),
    st.data(),
    st.integers(0, 2**31 - 1),
)
def test_heads_of_zeros_denormals_and_huge_values(
    dtype: torch.dtype,
    odd: list[tuple[str, str]],
    shared: bool,
    position: int,
    data: st.DataObject,
    seed: int,
) -> None:
    limits = torch.finfo(dtype)
    sizes = {"zero": 0.0, "-zero": -0.0, "tiny": limits.smallest_normal * limits.eps}
    step = random_step(2, 4, 2, 32, 41, position, dtype, DEVICE, seed)
    for part, size in odd:
        drawn = part_of(step, part, 4, position)
        place = tuple(data.draw(st.integers(0, number - 1)) for number in drawn.shape[:-1])
        if size != "huge":
            drawn[place] = sizes[size]
        elif part in ("value", "values"):
            drawn[place] = limits.max / 256
        elif part != "keys":
            # Of a new query or key, squares must fit into fp32; a cached key has been normed.
            drawn[place] = drawn[place].sign() * min(limits.max, 2.0**58)
    y = assert_equals_the_reference(step, position, LaunchConfig(16, 4, 2, 2), shared=shared)
    assert y.isfinite().all()


@attention_in_fp32
@few
@given(
    st.sampled_from(FLOATS),
    st.lists(st.integers(0, 17), min_size=8, max_size=8),
    st.sampled_from([1, 16]),
    st.integers(0, 2**31 - 1),
)
@example(torch.float32, [1, 0, 0, 0, 0, 0, 0, 0], 1, 1)
def test_tensors_may_begin_anywhere(dtype: torch.dtype, offsets: list[int], unit: int, seed: int) -> None:
    """The oracle rule holds, and nothing around them is read or written.

    They are the same bits where the same kernel runs: in the interpreter, and on a GPU where every tensor begins at a
    multiple of 16 bytes. Triton compiles another one for any that does not, with narrower loads: threads then hold
    other elements, and sums over threads are taken in another order.
    """
    position = seed % 24
    clean = random_step(2, 4, 2, 32, 24, position, dtype, DEVICE, seed)
    rooms, moved = [], []
    for tensor, offset in zip(clean, (unit * offset for offset in offsets), strict=True):
        # A position cannot be NaN: read from elsewhere, it is behind the cache.
        room = torch.full((offset + tensor.numel() + 17,), torch.nan if tensor.is_floating_point() else 99).to(tensor)
        moved.append(room[offset : offset + tensor.numel()].view(tensor.shape).copy_(tensor))
        rooms.append((room, offset))
    step = Step(*moved)
    y = assert_equals_the_reference(step, position)
    for (room, offset), tensor in zip(rooms, clean, strict=True):
        around = torch.cat([room[:offset], room[offset + tensor.numel() :]])
        assert around.isnan().all() or (around == 99).all()
    for found, tensor in zip(step[:-2], clean[:-2], strict=True):
        assert torch.equal(found, tensor)
    if INTERPRETED or all(tensor.data_ptr() % 16 == 0 for tensor in step):
        assert torch.equal(y, decode_attention(*clean))
        for found, tensor in zip(step[-2:], clean[-2:], strict=True):
            assert torch.equal(found.nan_to_num(9.0), tensor.nan_to_num(9.0))


@few
@given(st.sampled_from([name for name in Step._fields if name != "position"]), st.integers(0, 3), st.integers(0, 3))
def test_strides_are_refused(name: str, one: int, other: int) -> None:
    """Rather than copied: keys and values are changed in place, and the rest are small or comes from a product."""
    step = random_step(2, 4, 2, 32, 8, 3, torch.float32, DEVICE)
    tensor = getattr(step, name)
    if tensor.ndim == 1 or one % tensor.ndim == other % tensor.ndim:
        view = torch.empty((*tensor.shape, 2), device=DEVICE)[..., 0]
    else:
        view = tensor.transpose(one % tensor.ndim, other % tensor.ndim)
        view = view.contiguous().transpose(one % tensor.ndim, other % tensor.ndim)
    with pytest.raises(ValueError) as caught:
        decode_attention(*step._replace(**{name: view}))
    shape = list(tensor.shape)
    assert str(caught.value) == (
        f"decode_attention: {name} must be {shape} torch.float32 on {view.device}, contiguous; it is {shape} "
        f"torch.float32 on {view.device} with strides {list(view.stride())}"
    )
