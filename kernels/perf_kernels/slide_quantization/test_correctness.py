"""Does the kernel give what row quantisation gives, slid: any type, group, width, stride, position and launch?"""

from __future__ import annotations

import itertools
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from perf_kernels.model_shapes import WIDTHS
from perf_kernels.row_quantization import quantize_rows
from perf_kernels.row_quantization.reference import SMALLEST_SCALE
from perf_kernels.slide_quantization import (
    LaunchConfig,
    bytes_moved,
    launch_config,
    padded_rows,
    slid_width,
    slide,
    slide_quantize_rows,
    slide_quantize_rows_reference,
)
from perf_kernels.slide_quantization.inputs import AWKWARD, awkward_rows, random_rows, sparse_weight, weight_windows
from perf_kernels.slide_quantization.launch import cut
from perf_kernels.target import Target

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
FP8 = torch.float8_e4m3fn
HAS_FP8 = DEVICE == "cpu" or torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 9)
VALUES = [torch.bfloat16, torch.float16, torch.float32]
CODES = [torch.int8, FP8] if HAS_FP8 else [torch.int8]
SIZES = [4, 6, 8, 10, 12]

_profile = settings.get_profile("perf_kernels")
# Every call makes 16 rows, and the interpreter takes a quarter of a second for them.
examples = settings(_profile, max_examples=min(_profile.max_examples, 12) if DEVICE == "cpu" else _profile.max_examples)
values = st.sampled_from(VALUES)
codes = st.sampled_from(CODES)
sizes = st.sampled_from(SIZES)
seeds = st.integers(0, 2**31 - 1)
widths = st.one_of(st.integers(1, 80), st.integers(1, 500), st.sampled_from([256, 480, 768]))
magnitudes = st.one_of(st.integers(-20, 12), st.integers(-140, 110))
configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        num_warps=st.sampled_from([1, 2]),
        groups=st.sampled_from([1, 2, 4]),
        trade=st.booleans(),
        one_pass=st.booleans(),
    ),
)
layouts = st.sampled_from(["contiguous", "padded rows", "odd padding", "transposed", "every other column"])


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Give a tensor equal to ``x`` in value with the strides that ``layout`` names."""
    if layout == "transposed":
        return x.t().contiguous().t()
    rows, width = x.shape
    more, step = {
        "contiguous": (0, 1),
        "padded rows": (16, 1),
        "odd padding": (3, 1),
        "every other column": (width, 2),
    }[layout]
    # NaN around the values: reading any of it would poison a row.
    room = torch.full((rows, width + more), math.nan, dtype=x.dtype, device=x.device)
    view = room[:, : step * width : step]
    view.copy_(x)
    return view


def row_quantization_slid(x: torch.Tensor, group: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    q, scale = quantize_rows(x, dtype)
    more = padded_rows(len(x)) - len(x)
    return pad(slide(q.view(torch.uint8), group), (0, 0, 0, more)).view(dtype), pad(scale, (0, more), value=1.0)


def assert_same(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    (q, scale), (expected_q, expected_scale) = found, expected
    assert (q.shape, q.dtype, scale.dtype) == (expected_q.shape, expected_q.dtype, torch.float32)
    assert torch.equal(scale.isnan(), expected_scale.isnan())
    assert torch.equal(scale.nan_to_num(-1.0), expected_scale.nan_to_num(-1.0))
    different = q.view(torch.uint8) != expected_q.view(torch.uint8)
    assert not different.any(), f"{int(different.sum())} codes differ, first at {different.nonzero()[0].tolist()}"


@examples
@given(values, codes, sizes, st.integers(1, 3), widths, magnitudes, layouts, configs, seeds)
def test_equals_row_quantization_slid(
    dtype: torch.dtype,
    code: torch.dtype,
    group: int,
    rows: int,
    width: int,
    magnitude: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    x = random_rows(rows, width, torch.float64, "cpu", seed) * 2.0**magnitude
    largest = torch.finfo(dtype).max
    x = laid_out(x.clamp(-largest, largest).to(dtype).to(DEVICE), layout)
    q, scale = slide_quantize_rows(x, group, code, config=config)
    assert q.is_contiguous()
    assert_same((q, scale), row_quantization_slid(x, group, code))


@pytest.mark.parametrize("group", SIZES)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_reference_in_every_launch(group: int, groups: int) -> None:
    code = CODES[(groups + group // 2) % len(CODES)]
    x = random_rows(1, 11 * group + 5, torch.bfloat16, DEVICE, seed=group)
    expected = slide_quantize_rows_reference(x, group, code)
    for trade in (True, False):
        assert_same(slide_quantize_rows(x, group, code, config=LaunchConfig(1, groups, trade)), expected)


@pytest.mark.parametrize("group", SIZES)
@pytest.mark.parametrize("one_pass", [True, False], ids=["one_pass", "two_passes"])
def test_several_tiles(group: int, one_pass: bool) -> None:
    x = random_rows(16, 1000, torch.bfloat16, DEVICE, seed=2)[:2]
    config = LaunchConfig(1, 2, one_pass=one_pass)
    assert cut(config, 1000, group, 2, 32).tiles >= 2
    assert_same(slide_quantize_rows(x, group, config=config), slide_quantize_rows_reference(x, group))


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_awkward_rows(dtype: torch.dtype, code: torch.dtype) -> None:
    x = awkward_rows(60, dtype, DEVICE)
    q, scale = slide_quantize_rows(x, 8, code)
    assert_same((q, scale), row_quantization_slid(x, 8, code))
    for i in range(len(AWKWARD) - 4, len(AWKWARD)):
        assert not scale[i].isfinite()
        assert q[i].view(torch.uint8).count_nonzero() == 0


@pytest.mark.parametrize("width", WIDTHS[::2])
def test_widths_of_the_models(width: int) -> None:
    x = random_rows(1, width, torch.bfloat16, DEVICE, seed=width)
    assert_same(slide_quantize_rows(x, 8), slide_quantize_rows_reference(x, 8))


@pytest.mark.parametrize("group", SIZES)
def test_slide_as_it_is_defined(group: int) -> None:
    width = 3 * group - 1
    x = torch.arange(1, width + 1).reshape(1, width)
    windows = group // 2 - 1
    expected = [0] * slid_width(width, group)
    for g, w, lane in itertools.product(range(3), range(windows), range(4)):
        column = g * group + 2 * w + lane
        expected[4 * (g * windows + w) + lane] = column + 1 if column < width else 0
    assert slide(x, group).tolist() == [expected]


@pytest.mark.parametrize("group", SIZES)
def test_slide_keeps_every_product_exactly(group: int) -> None:
    """slide(x) . slide(w) == x . w in integers, and what is multiplied has at most 2 of 4 non-zeros."""
    width = 13 * group - 3
    x = random_rows(5, width, torch.bfloat16, DEVICE, seed=1)
    weight = sparse_weight(4, width, group, seed=2)
    slid_weight = torch.tensor(weight_windows(weight, group))
    assert (slid_weight.count_nonzero(dim=2) <= 2).all()
    slid_weight = slid_weight.flatten(1)
    slid_weight = pad(slid_weight, (0, slid_width(width, group) - slid_weight.shape[1]))

    q, _ = quantize_rows(x)
    slid_q, _ = slide_quantize_rows(x, group)

    assert slid_q.shape == (16, slid_weight.shape[1])
    assert torch.equal(slid_q.cpu().long()[:5] @ slid_weight.t(), q.cpu().long() @ weight.t())


@pytest.mark.parametrize("group", SIZES)
def test_every_pattern_of_a_group_can_be_placed(group: int) -> None:
    patterns = [p for p in itertools.product((0, 1), repeat=group) if sum(p) <= group - 2]
    weight = torch.tensor(patterns) * torch.arange(1, group + 1)
    for row, windows in zip(weight.tolist(), weight_windows(weight, group), strict=True):
        assert sorted(value for window in windows for value in window if value) == [value for value in row if value]
        assert all(sum(value != 0 for value in window) <= 2 for window in windows)


def test_a_denser_weight_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        weight_windows(torch.tensor([[1] * 8 + [0, 1, 1, 1, 1, 1, 1, 1]]), 8)
    assert str(caught.value) == "more than 6 non-zeros in the group of 8 from column 0"


@pytest.mark.parametrize("code", CODES, ids=str)
def test_groups_of_four_are_row_quantization(code: torch.dtype) -> None:
    x = random_rows(16, 96, torch.bfloat16, DEVICE)
    q, scale = slide_quantize_rows(x, 4, code)
    expected_q, expected_scale = quantize_rows(x, code)
    assert torch.equal(q.view(torch.uint8), expected_q.view(torch.uint8))
    assert torch.equal(scale, expected_scale)


@examples
@given(codes, sizes, st.integers(1, 200), st.integers(2, 5), seeds)
def test_a_row_does_not_depend_on_its_position(code: torch.dtype, group: int, width: int, rows: int, seed: int) -> None:
    row = random_rows(1, width, torch.bfloat16, DEVICE, seed)
    alone_q, alone_scale = slide_quantize_rows(row, group, code)
    q, scale = slide_quantize_rows(row.expand(rows, width), group, code)
    assert torch.equal(q[:rows].view(torch.uint8), alone_q[:1].view(torch.uint8).expand(rows, -1))
    assert torch.equal(scale[:rows], alone_scale[:1].expand(rows))


@pytest.mark.parametrize("width", [1, 100, 257])
@pytest.mark.parametrize("group", [4, 8, 10])
def test_writes_every_code_and_nothing_else(group: int, width: int) -> None:
    x = random_rows(3, width, torch.bfloat16, DEVICE)
    x[1, width // 2] = math.nan
    expected = slide_quantize_rows_reference(x, group)
    columns = slid_width(width, group)
    for poison in (0x55, 0x2A):
        room = torch.full((18, columns), poison, dtype=torch.uint8, device=DEVICE)
        scales = torch.full((18,), float(poison), device=DEVICE)
        out = room.view(torch.int8)[1:17], scales[1:17]
        q, scale = slide_quantize_rows(x, group, out=out)
        assert q is out[0]
        assert scale is out[1]
        assert_same((q, scale), expected)
        q.fill_(poison)
        scale.fill_(poison)
        assert (room == poison).all()
        assert (scales == poison).all()


@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (3, 0)], ids=str)
def test_empty(shape: tuple[int, int]) -> None:
    q, scale = slide_quantize_rows(torch.empty(shape, dtype=torch.bfloat16, device=DEVICE), 8)
    assert q.shape == (padded_rows(shape[0]), slid_width(shape[1], 8))
    assert scale.tolist() == [SMALLEST_SCALE] * shape[0] + [1.0] * (len(q) - shape[0])


@pytest.mark.parametrize("code", CODES, ids=str)
def test_operator(code: torch.dtype) -> None:
    x = random_rows(3, 50, torch.bfloat16, DEVICE)
    torch.library.opcheck(
        torch.ops.perf_kernels.slide_quantize_rows.default,
        (x, 8, code),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_in_a_compiled_model() -> None:
    def model(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q, scale = slide_quantize_rows(x + 1, 6)
        return q, scale * 2

    x = random_rows(2, 70, torch.bfloat16, DEVICE)
    q, scale = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
    expected_q, expected_scale = slide_quantize_rows_reference(x + 1, 6)
    assert torch.equal(q, expected_q)
    assert torch.equal(scale, expected_scale * 2)


def test_wrong_input_type() -> None:
    with pytest.raises(TypeError) as caught:
        slide_quantize_rows(torch.zeros(2, 2, dtype=torch.float64, device=DEVICE), 8)
    assert str(caught.value) == (
        "slide_quantize_rows: x is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32"
    )


def test_wrong_code_type() -> None:
    with pytest.raises(TypeError) as caught:
        slide_quantize_rows(torch.zeros(2, 2, device=DEVICE), 8, torch.uint8)
    assert str(caught.value) == (
        "slide_quantize_rows: dtype is torch.uint8; it must be torch.int8 or torch.float8_e4m3fn"
    )


@pytest.mark.parametrize("group", [0, 2, 5, 14])
def test_wrong_group(group: int) -> None:
    with pytest.raises(ValueError) as caught:
        slide_quantize_rows(torch.zeros(2, 2, device=DEVICE), group)
    assert str(caught.value) == f"slide_quantize_rows: group is {group}; it must be 4, 6, 8, 10 or 12"


def test_wrong_dimensions() -> None:
    with pytest.raises(ValueError) as caught:
        slide_quantize_rows(torch.zeros(2, 3, 4, device=DEVICE), 8)
    assert str(caught.value) == "slide_quantize_rows: x has 3 dimensions; it must have 2, rows and columns"


def test_wrong_device() -> None:
    with pytest.raises(ValueError) as caught:
        slide_quantize_rows(torch.zeros(2, 2, device="meta"), 8)
    hint = {
        "cpu": "with TRITON_INTERPRET=1 it must be on the CPU",
        "cuda": "it must be on a GPU; on a CPU the kernel runs in Triton's interpreter, with TRITON_INTERPRET=1",
    }[DEVICE]
    assert str(caught.value) == f"slide_quantize_rows: x is on meta; {hint}"


def test_too_wide() -> None:
    with pytest.raises(ValueError) as caught:
        slide_quantize_rows(torch.zeros(1, 1, device=DEVICE).expand(1, 2**29 + 1), 8)
    assert str(caught.value) == (
        "slide_quantize_rows: x has rows of 536870913 elements; at most 536870912 are supported"
    )


def test_wrong_out() -> None:
    x = torch.zeros(2, 3, device=DEVICE)
    q, scale = torch.empty(16, 32, dtype=torch.int8, device=DEVICE), torch.empty(16, device=DEVICE)
    where = str(x.device)
    with pytest.raises(ValueError) as caught:
        slide_quantize_rows(x, 8, out=(torch.empty(32, 16, dtype=torch.int8, device=DEVICE).t(), scale))
    assert str(caught.value) == (
        f"slide_quantize_rows: out[0] must be [16, 32] torch.int8 on {where}, contiguous and aligned to 4 bytes; "
        f"it is [16, 32] torch.int8 on {where} with strides [1, 16] and offset 0"
    )
    room = torch.empty(16 * 32 + 2, dtype=torch.int8, device=DEVICE)[2:].view(16, 32)
    with pytest.raises(ValueError) as caught:
        slide_quantize_rows(x, 8, out=(room, scale))
    assert str(caught.value) == (
        f"slide_quantize_rows: out[0] must be [16, 32] torch.int8 on {where}, contiguous and aligned to 4 bytes; "
        f"it is [16, 32] torch.int8 on {where} with strides [32, 1] and offset 2"
    )
    with pytest.raises(ValueError) as caught:
        slide_quantize_rows(x, 8, out=(q, scale[:2]))
    assert str(caught.value) == (
        f"slide_quantize_rows: out[1] must be [16] torch.float32 on {where}, contiguous and aligned to 4 bytes; "
        f"it is [2] torch.float32 on {where} with strides [1] and offset 0"
    )


def test_fp8_without_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    from perf_kernels.slide_quantization import kernel

    monkeypatch.setattr(kernel, "current_target", lambda: Target("cuda", 80, 32))
    with pytest.raises(ValueError) as caught:
        slide_quantize_rows(torch.zeros(2, 2, device=DEVICE), 8, FP8)
    assert str(caught.value) == (
        "slide_quantize_rows: torch.float8_e4m3fn needs compute capability 8.9 or more; this device has 8.0"
    )


@settings(_profile)
@given(st.integers(1, 2**17), st.integers(1, 2**20), sizes, st.sampled_from([2, 4]), st.sampled_from([32, 64]))
def test_launch_covers_the_row(rows: int, width: int, group: int, itemsize: int, lanes: int) -> None:
    config = launch_config(rows, width, group, itemsize, lanes)
    shape = cut(config, width, group, itemsize, lanes)
    columns, words = config.groups * group, config.groups * (group // 2 - 1)
    assert shape.units == config.num_warps * lanes <= 1024
    assert columns % shape.vector == 0
    assert words % shape.across == 0
    assert shape.vector * itemsize <= 16
    # The last tile is needed, the row's words are covered, and those of whole tiles lie within the row.
    row_words = slid_width(width, group) // 4
    assert (shape.tiles - 1) * shape.units * words < row_words <= shape.tiles * shape.units * words
    assert shape.tiles * shape.units * columns >= width
    assert shape.whole * shape.units * columns <= width
    assert shape.whole * shape.units * words <= row_words
    assert config.one_pass == (shape.tiles * columns * itemsize <= 160)


@pytest.mark.parametrize("width", [*WIDTHS, 37888])
@pytest.mark.parametrize("group", SIZES)
def test_rows_of_the_models_are_read_once(group: int, width: int) -> None:
    config = launch_config(65536, width, group, 2)
    assert config.one_pass
    shape = cut(config, width, group, 2, 32)
    assert 1 - slid_width(width, group) / (shape.tiles * shape.units * config.groups * (group // 2 - 1) * 4) <= 0.26


@pytest.mark.parametrize(
    ("width", "group", "expected"),
    [
        (3584, 4, 3584),
        (3584, 6, 4800),
        (3584, 8, 5376),
        (3584, 10, 5760),
        (3584, 12, 5984),
        (37888, 8, 56832),
        (1, 8, 32),
    ],
)
def test_slid_width(width: int, group: int, expected: int) -> None:
    assert slid_width(width, group) == expected


def test_padded_rows() -> None:
    assert [padded_rows(rows) for rows in (0, 1, 16, 17)] == [0, 16, 16, 32]


def test_bytes_moved() -> None:
    assert bytes_moved(rows=17, width=3584, group=8, itemsize=2) == 17 * 3584 * 2 + 32 * (5376 + 4)
