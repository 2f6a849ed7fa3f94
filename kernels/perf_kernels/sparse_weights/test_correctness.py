"""Is every step what its definition says: pruning, the greedy placement, the integer identity, compression?"""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perf_kernels.sparse_weights import (
    bytes_moved,
    check_two_in_four,
    compress,
    convert_weight,
    prune_weight,
    slid_columns,
    slide_weight,
)
from perf_kernels.sparse_weights.inputs import random_weight
from perf_kernels.sparse_weights.reference import (
    compress_reference,
    decompress_reference,
    prune_weight_reference,
    slide_activations_reference,
    slide_weight_reference,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPES = [torch.int8, torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float32]
GROUPS = [4, 6, 8, 10, 12]

examples = settings.get_profile("perf_kernels")
types = st.sampled_from(TYPES)
groups = st.sampled_from([*GROUPS, 14, 16])
rows_ = st.integers(1, 4)
columns_ = st.integers(1, 70)
seeds = st.integers(0, 2**31 - 1)


def drawn(rows: int, columns: int, dtype: torch.dtype, seed: int, levels: int = 0) -> torch.Tensor:
    """Draw weights on the CPU; with ``levels`` only so many magnitudes, so that there are ties and zeros."""
    if levels == 0:
        return random_weight(rows, columns, dtype, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-levels, levels + 1, (rows, columns), generator=generator).float().to(dtype)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.cpu().contiguous().view(torch.uint8)


@examples
@given(types, rows_, columns_, groups, st.integers(0, 3), seeds)
# A negative zero alone in the last group.
@example(torch.float8_e4m3fn, 3, 31, 6, 0, 164867390)
def test_pruning_equals_the_reference(
    dtype: torch.dtype, rows: int, columns: int, group: int, levels: int, seed: int
) -> None:
    weight = drawn(rows, columns, dtype, seed, levels)
    before = weight.clone()
    pruned = prune_weight(weight.to(DEVICE), group)
    assert (pruned.shape, pruned.dtype) == (weight.shape, dtype)
    assert torch.equal(bits(pruned), bits(prune_weight_reference(weight, group)))
    assert torch.equal(bits(weight), bits(before))


@examples
@given(types, rows_, columns_, groups, st.integers(0, 2), seeds)
def test_sliding_equals_the_reference(
    dtype: torch.dtype, rows: int, columns: int, group: int, levels: int, seed: int
) -> None:
    weight = prune_weight_reference(drawn(rows, columns, dtype, seed, levels), group)
    slid = slide_weight(weight.to(DEVICE), group)
    assert (slid.shape, slid.dtype) == ((rows, slid_columns(columns, group)), dtype)
    assert torch.equal(bits(slid), bits(slide_weight_reference(weight, group)))


@examples
@given(rows_, columns_, groups, seeds)
def test_products_stay_the_same(rows: int, columns: int, group: int, seed: int) -> None:
    """slide(x) . slide(w) == x . w, exactly, in integers; x' as the activations' kernel writes it."""
    weight = prune_weight(random_weight(rows, columns, torch.int8, seed=seed), group)
    x = random_weight(3, columns, torch.int8, seed=seed + 1)
    slid_x, slid_weight = slide_activations_reference(x, group), slide_weight(weight, group)
    assert slid_x.shape[1] == slid_weight.shape[1]
    assert torch.equal(slid_x.long() @ slid_weight.long().t(), x.long() @ weight.long().t())


@pytest.mark.parametrize("group", GROUPS)
def test_every_pattern(group: int) -> None:
    """Exhaustive: each pattern with at most L - 2 non-zeros is placed completely, any other is rejected."""
    patterns = torch.arange(2**group)
    weight = (patterns[:, None] >> torch.arange(group) & 1) * torch.arange(1, group + 1)
    weight = weight.to(torch.int8)
    allowed = (weight != 0).sum(dim=1) <= group - 2

    slid = slide_weight(weight[allowed].to(DEVICE), group).cpu()

    check_two_in_four(slid)
    assert torch.equal(slid.sort(dim=1).values[:, -group:], weight[allowed].sort(dim=1).values[:, -group:])
    used = slid[:, : 2 * group - 4].view(-1, group // 2 - 1, 4)
    lanes = torch.arange(group // 2 - 1)[:, None] * 2 + torch.arange(4)
    at_home = (lanes + 1).to(torch.int8)
    assert ((used == at_home) | (used == 0)).all(), "a weight lies where its activation does not"
    assert slid[:, 2 * group - 4 :].count_nonzero() == 0
    for row in weight[~allowed]:
        with pytest.raises(ValueError, match="non-zeros"):
            slide_weight(row[None].to(DEVICE), group)


@pytest.mark.parametrize("group", [4, 6])
def test_greedy_is_left_to_right(group: int) -> None:
    """Against a search over all placements: the greedy one is complete, and of those the first in order of lanes."""
    windows = group // 2 - 1
    for pattern in itertools.product([0, 1], repeat=group):
        if sum(pattern) > group - 2:
            continue
        choices = [
            [window for window in range(windows) if 0 <= column - 2 * window < 4]
            for column in range(group)
            if pattern[column]
        ]
        columns = [column for column in range(group) if pattern[column]]
        complete = [
            places for places in itertools.product(*choices) if all(places.count(window) <= 2 for window in places)
        ]
        first = min(complete)
        slid = slide_weight(torch.tensor([pattern], dtype=torch.int8), group)[0]
        expected = torch.zeros_like(slid)
        for column, window in zip(columns, first, strict=True):
            expected[4 * window + column - 2 * window] = 1
        assert torch.equal(slid, expected)


def test_known_weights() -> None:
    weight = torch.tensor([[5, -4, 3, 2, -1, 6, 7, 1]], dtype=torch.int8)
    pruned = prune_weight(weight, 8)
    assert pruned.tolist() == [[5, -4, 3, 2, 0, 6, 7, 0]]
    assert slide_weight(pruned, 8).tolist() == [[5, -4, 0, 0, 3, 2, 0, 0, 0, 6, 7, 0, *[0] * 20]]


def test_ties_and_awkward_values() -> None:
    nan, inf = torch.nan, torch.inf
    weight = torch.tensor([[1.0, -1.0, 1.0, -1.0], [nan, inf, -inf, 2.0], [0.0, 3.0, -0.0, 3.0]])
    pruned = prune_weight(weight, 4)
    assert pruned[0].tolist() == [0.0, 0.0, 1.0, -1.0], "of equal magnitudes those further left are zeroed"
    assert pruned[1].isnan().tolist() == [True, False, False, False]
    assert pruned[1, 1:].tolist() == [0.0, -inf, 0.0]
    assert pruned[2].tolist() == [0.0, 3.0, 0.0, 3.0]
    alone = prune_weight(torch.tensor([[1.0, 2.0, 3.0, 4.0, -0.0]], device=DEVICE), 4)
    assert alone[0, 4].signbit().item() is False, "of the last group, it is zeroed before the three that are missing"
    slid = slide_weight(torch.tensor([[-0.0, 1.0, 2.0, -0.0]]), 4)
    assert slid[0, :4].tolist() == [0.0, 1.0, 2.0, 0.0], "a negative zero takes no room"
    smallest = torch.tensor([[-128, 127, 1, 2]], dtype=torch.int8)
    assert prune_weight(smallest, 4).tolist() == [[-128, 127, 0, 0]]


@pytest.mark.parametrize("columns", [1, 31, 33, 3584])
@pytest.mark.parametrize("group", GROUPS)
def test_padding(columns: int, group: int) -> None:
    wide = slid_columns(columns, group)
    assert wide % 32 == 0
    assert -(-columns // group) * (2 * group - 4) <= wide < -(-columns // group) * (2 * group - 4) + 32
    slid = convert_weight(torch.ones(2, columns), group)
    assert slid.shape == (2, wide)


def test_expansion() -> None:
    assert [slid_columns(960 * 4, group) / (960 * 4) for group in (4, 6, 8, 10)] == [1, 4 / 3, 1.5, 1.6]


def test_many_rows_are_handled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from perf_kernels.sparse_weights import convert

    weight = random_weight(37, 24, torch.bfloat16, DEVICE, seed=1)
    whole = convert_weight(weight, 6)
    monkeypatch.setattr(convert, "_CPU_GROUPS", 20)
    monkeypatch.setattr(convert, "_GPU_GROUPS", 20)
    assert torch.equal(convert_weight(weight, 6), whole)
    weight = prune_weight(weight, 6)
    weight[30, 7:12] = 1
    with pytest.raises(ValueError, match="row 30, group 1 "):
        slide_weight(weight, 6)
    whole[31, 4:8] = 1
    with pytest.raises(ValueError, match="row 31, columns 4 to 7 "):
        check_two_in_four(whole)


@pytest.mark.parametrize("layout", ["transposed", "every other column", "offset"])
def test_strides(layout: str) -> None:
    weight = random_weight(6, 20, torch.float16, DEVICE, seed=2)
    if layout == "transposed":
        view = weight.t().contiguous().t()
    else:
        room = torch.full((6, 41), torch.nan, dtype=weight.dtype, device=DEVICE)
        view = room[:, :40:2] if layout == "every other column" else room[:, 3:23]
        view.copy_(weight)
    assert torch.equal(convert_weight(view, 8), convert_weight(weight, 8))


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0, 0)], ids=str)
def test_empty(shape: tuple[int, int]) -> None:
    slid = convert_weight(torch.empty(shape, device=DEVICE), 8)
    assert slid.shape == (shape[0], slid_columns(shape[1], 8))


@examples
@given(st.sampled_from(TYPES), rows_, st.integers(1, 4), seeds)
def test_compressed_form(dtype: torch.dtype, rows: int, groups_of_32: int, seed: int) -> None:
    """Half the values and two bits for each of them give the matrix back."""
    weight = convert_weight(random_weight(rows, 32 * groups_of_32, dtype, seed=seed), 4)
    values, metadata = compress_reference(weight.float())
    assert (values.shape[1], metadata.shape[1]) == (weight.shape[1] // 2, weight.shape[1] // 8)
    assert torch.equal(decompress_reference(values, metadata), weight.float())


def test_compressed_form_of_known_weights() -> None:
    weight = torch.tensor([[0, 7, 0, 8, 0, 0, 9, 0]])
    values, metadata = compress_reference(weight)
    assert values.tolist() == [[7, 8, 0, 9]]
    assert metadata.tolist() == [[0b10_00_11_01]]


@pytest.mark.sm80
@pytest.mark.skipif(
    not torch.backends.cusparselt.is_available(),
    reason="this torch has no cuSPARSELt: install a build for CUDA (torch.backends.cusparselt.is_available())",
)
@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("group", [4, 6, 8, 10])
def test_cusparselt_multiplies_what_was_slid(group: int, dtype: torch.dtype) -> None:
    """On the GPU's sparse units: integers exactly, and sums below 256 are exact in bf16 and fp16 as well."""
    integer = dtype is torch.int8
    weight = prune_weight(drawn(256, 960, dtype, seed=group, levels=7 if integer else 1).cuda(), group)
    x = drawn(64, 960, dtype, seed=1, levels=7 if integer else 1)
    slid_x = slide_activations_reference(x, group).cuda()
    out_dtype = torch.int32 if integer else None
    y = torch._cslt_sparse_mm(compress(slide_weight(weight, group)), slid_x.t(), out_dtype=out_dtype).t()
    assert torch.equal(y.double(), x.cuda().double() @ weight.double().t())


@pytest.mark.sm80
@pytest.mark.vram(24)
@pytest.mark.isolate
def test_past_2_to_the_31() -> None:
    """A slid matrix of more than 2**31 elements from fewer; rows repeat every 64."""
    weight = random_weight(64, 4096, torch.int8, "cuda", seed=3)
    slid = convert_weight(weight.repeat(6000, 1), 8)
    assert 64 * 6000 * 4096 < 2**31 < slid.numel()
    assert (slid.view(6000, 64, -1) == convert_weight(weight, 8)).all()


def test_work() -> None:
    assert bytes_moved(18944, 3584, 8, 2) == 18944 * (3 * 3584 + 2 * 5376) * 2
