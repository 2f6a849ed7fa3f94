"""Does a step of attention give what the reference gives, and change the cache where it should, and only there?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.decode_attention import (
    LaunchConfig,
    bytes_moved,
    decode_attention,
    launch_config,
    workspace_for,
)
from perf_kernels.decode_attention.inputs import Step, random_step
from perf_kernels.decode_attention.step_tests import DEVICE, FLOATS, assert_equals_the_reference, examples, few
from perf_kernels.target import DEVICE_HINT
from perf_kernels.undeclared_tests import attention_in_fp32, narrow_heads

pytestmark = narrow_heads


@attention_in_fp32
@few
@given(
    st.sampled_from(FLOATS),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(1, 5),
    st.sampled_from([32, 64, 128]),
    st.integers(1, 90),
    st.sampled_from([16, 32, 64]),
    st.sampled_from([0, 1, 2, 4, 16]),
    st.integers(0, 2**31 - 1),
)
def test_equals_the_reference(
    dtype: torch.dtype,
    batch: int,
    kv_heads: int,
    group: int,
    width: int,
    length: int,
    block: int,
    splits: int,
    seed: int,
) -> None:
    position = seed % length
    step = random_step(batch, kv_heads * group, kv_heads, width, length, position, dtype, DEVICE, seed)
    config = LaunchConfig(block, num_warps=4, num_stages=2, splits=max(splits, 1))
    assert_equals_the_reference(step, position, config, shared=splits > 0)


@pytest.mark.parametrize("splits", [0, 32])
def test_more_splits_than_a_workspace_holds(splits: int) -> None:
    step = random_step(1, 2, 1, 32, 8, 3, torch.float32, DEVICE)
    with pytest.raises(ValueError) as caught:
        decode_attention(*step, config=LaunchConfig(16, 4, 2, splits))
    assert str(caught.value) == f"decode_attention: config.splits is {splits}; it must be 1 to 16"


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize("position", [0, 1, 63, 64, 65, 129])
def test_default_launch_around_the_ends_of_blocks(position: int, shared: bool) -> None:
    """What is read behind the last token is NaN, and would show."""
    step = random_step(1, 4, 1, 128, 130, position, torch.bfloat16, DEVICE, position)
    assert_equals_the_reference(step, position, shared=shared)


def test_launches_that_follow_each_other_share_a_workspace() -> None:
    """Each finds the counters as the first did, whatever the number of tiles; the order of programs does not matter."""
    config = LaunchConfig(16, num_warps=4, num_stages=2, splits=4)
    workspace = None
    for position in (0, 40, 3, 90, 16, 89):
        step = random_step(2, 4, 2, 32, 91, position, torch.bfloat16, DEVICE, position)
        workspace = workspace or workspace_for(step.keys, 4)
        shared = decode_attention(*step, workspace=workspace, config=config)
        assert not workspace.arrived.any()
        again = decode_attention(*step, workspace=workspace_for(step.keys, 4), config=config)
        assert torch.equal(shared, again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"arrived": torch.zeros(2, dtype=torch.int32, device=DEVICE)},
            "workspace.arrived must be [1] torch.int32 on {device}, contiguous, as workspace_for(keys, heads) makes "
            "it; it is [2] torch.int32 on {device} with strides [1]",
        ),
        (
            {"partial": torch.zeros(1, 16, 1, 36, device=DEVICE)},
            "workspace.partial must be [1, 16, 2, 36] torch.float32 on {device}, contiguous, as workspace_for(keys, "
            "heads) makes it; it is [1, 16, 1, 36] torch.float32 on {device} with strides [576, 36, 36, 1]",
        ),
        (
            {"partial": torch.zeros(1, 1, 1, 36, device=DEVICE).expand(1, 16, 2, 36)},
            "workspace.partial must be [1, 16, 2, 36] torch.float32 on {device}, contiguous, as workspace_for(keys, "
            "heads) makes it; it is [1, 16, 2, 36] torch.float32 on {device} with strides [36, 0, 0, 1]",
        ),
    ],
    ids=["arrived", "partial", "strides"],
)
def test_workspace_of_another_cache(change: dict[str, torch.Tensor], message: str) -> None:
    step = random_step(1, 2, 1, 32, 8, 3, torch.float32, DEVICE)
    with pytest.raises(ValueError) as caught:
        decode_attention(*step, workspace=workspace_for(step.keys, 2)._replace(**change))
    assert str(caught.value) == "decode_attention: " + message.format(device=step.q_norm.device)


@attention_in_fp32
def test_more_queries_than_rows_of_a_product() -> None:
    assert_equals_the_reference(random_step(1, 24, 1, 32, 40, 20, torch.float32, DEVICE), 20)


@attention_in_fp32
def test_scores_far_apart_do_not_overflow() -> None:
    step = random_step(1, 2, 1, 32, 40, 30, torch.float32, DEVICE)
    step.k_norm.mul_(1e3)
    step.keys.mul_(1e3)
    assert assert_equals_the_reference(step, 30).isfinite().all()


def test_sequences_do_not_depend_on_each_other() -> None:
    step = random_step(3, 4, 2, 32, 20, 11, torch.float16, DEVICE)
    one = Step(step.qkv[1:2], *step[1:6], step.keys[1:2].clone(), step.values[1:2].clone())
    assert torch.equal(decode_attention(*step)[1:2], decode_attention(*one))


@attention_in_fp32
def test_steps_follow_each_other() -> None:
    """The key and the value that one step stores are those that the next one reads."""
    first = random_step(1, 4, 2, 32, 8, 3, torch.float32, DEVICE)
    decode_attention(*first)
    second = first._replace(qkv=first.qkv.flip(1).contiguous(), position=first.position + 1)
    assert_equals_the_reference(second, 4)


def behind_the_cache(position: int, length: int, dtype: torch.dtype) -> tuple[Step, list[torch.Tensor]]:
    """Draw a step whose tables have as many rows as the cache, each tensor amid NaN; give that memory, too."""
    step = random_step(2, 4, 2, 32, length, length, dtype, DEVICE)
    rooms = []
    for name in ("cos", "sin", "keys", "values"):
        tensor = getattr(step, name)
        room = torch.full((3, *tensor.shape), torch.nan, dtype=dtype, device=DEVICE)
        room[1] = tensor
        rooms.append(room)
        step = step._replace(**{name: room[1]})
    return step._replace(position=torch.tensor(position, device=DEVICE)), rooms


@attention_in_fp32
@pytest.mark.parametrize(
    "config",
    [None, LaunchConfig(16, num_warps=4, num_stages=2), LaunchConfig(16, num_warps=4, num_stages=2, splits=4)],
    ids=["default", "small", "shared"],
)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("more", [0, 4])
def test_nothing_behind_the_cache_is_read_or_stored(more: int, dtype: torch.dtype, config: LaunchConfig | None) -> None:
    step, rooms = behind_the_cache(24 + more, 24, dtype)
    before = [room.clone() for room in rooms]
    workspace = workspace_for(step.keys, 4) if config is not None and config.splits > 1 else None
    y = decode_attention(*step, workspace=workspace, config=config)
    assert y.isfinite().all()
    for room, old in zip(rooms, before, strict=True):
        assert room[[0, 2]].isnan().all()
        assert torch.equal(room[1], old[1])
    # What lies behind one head's cache is another's: of that, nothing is looked at either.
    for cache in (step.keys, step.values):
        cache[1] = 9
    assert torch.equal(decode_attention(*step, workspace=workspace, config=config)[0], y[0])


@attention_in_fp32
def test_last_place_of_the_cache() -> None:
    step, rooms = behind_the_cache(23, 24, torch.float32)
    assert_equals_the_reference(step, 23)
    assert all(room[[0, 2]].isnan().all() for room in rooms)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"qkv": torch.zeros(1, 128, dtype=torch.float64, device=DEVICE)},
            TypeError,
            "qkv is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32",
        ),
        (
            {"keys": torch.zeros(1, 1, 8, 48, device=DEVICE)},
            ValueError,
            "keys are [1, 1, 8, 48]; they must be [B, G, L, D] with D one of 32, 64, 128, 256",
        ),
        (
            {"qkv": torch.zeros(1, 64, device=DEVICE)},
            ValueError,
            "qkv is [1, 64]; for keys [1, 1, 8, 32] it must be [1, (H + 2) * 32], H a multiple of 1",
        ),
        (
            {"values": torch.zeros(1, 1, 9, 32, device=DEVICE)},
            ValueError,
            "values must be [1, 1, 8, 32] torch.float32 on {device}, contiguous; it is [1, 1, 9, 32] torch.float32 on "
            "{device} with strides [288, 288, 32, 1]",
        ),
        (
            {"cos": torch.zeros(7, 32, device=DEVICE)},
            ValueError,
            "cos must be [8, 32] torch.float32 on {device}, contiguous; it is [7, 32] torch.float32 on {device} with "
            "strides [32, 1]",
        ),
        (
            {"position": torch.zeros(2, dtype=torch.int64, device=DEVICE)},
            ValueError,
            "position must be one torch.int64 on {device}; it is [2] torch.int64 on {device}",
        ),
    ],
    ids=["type", "width", "heads", "values", "tables", "position"],
)
def test_errors(change: dict[str, torch.Tensor], error: type[Exception], message: str) -> None:
    step = random_step(1, 2, 1, 32, 8, 3, torch.float32, DEVICE)._replace(**change)
    with pytest.raises(error) as caught:
        decode_attention(*step)
    assert str(caught.value) == "decode_attention: " + message.format(device=step.q_norm.device)


def test_wrong_device() -> None:
    step = random_step(1, 2, 1, 32, 8, 3, torch.float32, DEVICE)
    with pytest.raises(ValueError) as caught:
        decode_attention(step.qkv.to("meta"), *step[1:])
    assert str(caught.value) == f"decode_attention: qkv is on meta; {DEVICE_HINT}"


@examples
@given(st.integers(1, 2**20), st.sampled_from([32, 64, 128, 256]))
def test_launch_fits_into_shared_memory(length: int, width: int) -> None:
    config = launch_config(length, width)
    assert config.block.bit_count() == config.splits.bit_count() == 1
    assert config.block >= 16
    assert config.splits <= 16
    # Keys and values of 4 bytes; 99 KiB is what every GPU from compute capability 8.0 on has.
    assert 2 * config.block * width * 4 <= 99 * 1024


def test_work() -> None:
    # Queries, keys and values of the new token, outputs; 11 tokens of the cache, one of them written.
    assert bytes_moved(2, 32, 8, 128, 10, 2) == 2 * 128 * 2 * (32 + 8 + 8 + 32 + 2 * 8 * 11)
