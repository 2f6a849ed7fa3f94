"""Does the kernel give what the reference gives: any type, width, stride, position, launch, and awkward values?"""

from __future__ import annotations

import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.model_shapes import WIDTHS
from perf_kernels.row_quantization import (
    LaunchConfig,
    bytes_moved,
    dequantize,
    launch_config,
    quantize_rows,
    quantize_rows_reference,
)
from perf_kernels.row_quantization.inputs import AWKWARD, FINITE, awkward_rows, random_rows
from perf_kernels.row_quantization.reference import LARGEST_CODE, SMALLEST_SCALE, quotients, round_trip_error
from perf_kernels.target import Target

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
FP8 = torch.float8_e4m3fn
HAS_FP8 = DEVICE == "cpu" or torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 9)
VALUES = [torch.bfloat16, torch.float16, torch.float32]
CODES = [torch.int8, FP8] if HAS_FP8 else [torch.int8]

examples = settings.get_profile("perf_kernels")
values = st.sampled_from(VALUES)
codes = st.sampled_from(CODES)
seeds = st.integers(0, 2**31 - 1)
widths = st.one_of(st.integers(1, 80), st.integers(1, 700), st.sampled_from([255, 256, 257, 512, 1024, 1040]))
#: Binary exponents of a row's standard deviation, down to subnormal rows and up to where fp16 still holds them.
magnitudes = st.one_of(st.integers(-20, 12), st.integers(-140, 110))
configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        num_warps=st.sampled_from([1, 2, 4]),
        tile=st.sampled_from([128, 256]),
        one_pass=st.booleans(),
    ),
)
layouts = st.sampled_from(
    ["contiguous", "padded rows", "odd padding", "offset", "transposed", "every other column", "repeated"]
)


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Give a tensor equal to ``x`` in value with the strides that ``layout`` names."""
    rows, width = x.shape
    if layout == "contiguous":
        return x.contiguous()
    if layout == "transposed":
        return x.t().contiguous().t()
    if layout == "repeated":
        # A row stride of 0: every row is the first.
        return x[:1].expand(rows, width)
    shape, start, step = {
        "padded rows": ((rows, width + 16), 0, 1),
        "odd padding": ((rows, width + 3), 0, 1),
        "offset": ((rows, width + 5), 5, 1),
        "every other column": ((rows, 2 * width), 0, 2),
    }[layout]
    # NaN around the values: reading any of it would poison a row.
    room = torch.full(shape, math.nan, dtype=x.dtype, device=x.device)
    view = room[:, start : start + step * width : step]
    view.copy_(x)
    return view


def assert_same_scales(scale: torch.Tensor, expected: torch.Tensor) -> None:
    assert scale.dtype == expected.dtype == torch.float32
    assert torch.equal(scale.isnan(), expected.isnan())
    numbers = ~expected.isnan()
    assert torch.equal(scale[numbers].view(torch.int32), expected[numbers].view(torch.int32))


def assert_same_codes(q: torch.Tensor, expected: torch.Tensor, x: torch.Tensor) -> None:
    """Bit for bit; in INT8 from fp32 a code may differ by 1 where the quotient is within fp32 rounding of a tie."""
    assert q.dtype == expected.dtype
    different = q.view(torch.uint8) != expected.view(torch.uint8)
    if q.dtype is torch.int8 and x.dtype is torch.float32:
        quotient = quotients(x, torch.int8).abs()
        excused = ((quotient % 1 - 0.5).abs() <= quotient * 2**-24) & ((q.int() - expected.int()).abs() == 1)
        different &= ~excused
    assert not different.any(), f"{int(different.sum())} codes differ, first at {different.nonzero()[0].tolist()}"


def assert_equals_reference(x: torch.Tensor, dtype: torch.dtype, q: torch.Tensor, scale: torch.Tensor) -> None:
    expected_q, expected_scale = quantize_rows_reference(x, dtype)
    assert q.shape == x.shape
    assert_same_scales(scale, expected_scale)
    assert_same_codes(q, expected_q, x)


@examples
@given(values, codes, st.integers(1, 4), widths, magnitudes, layouts, configs, seeds)
def test_equals_reference(
    dtype: torch.dtype,
    code: torch.dtype,
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
    q, scale = quantize_rows(x, code, config=config)
    assert q.is_contiguous()
    assert_equals_reference(x, code, q, scale)


@examples
@given(values, st.integers(1, 200), st.integers(1, 8), seeds)
def test_many_ties_equal_reference(dtype: torch.dtype, width: int, shift: int, seed: int) -> None:
    # A largest value of 254 makes the scale 2 and every odd integer a tie.
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-254, 255, (2, width), generator=generator)
    x[:, 0] = 254
    x = (x.double() / 2**shift).to(dtype).to(DEVICE)
    q, scale = quantize_rows(x)
    expected, _ = quantize_rows_reference(x)
    assert torch.equal(q, expected)
    assert torch.equal(scale, torch.full_like(scale, 2.0 ** (1 - shift)))


@pytest.mark.parametrize("code", CODES, ids=str)
def test_every_pair_of_bf16_mantissas(code: torch.dtype) -> None:
    """A bf16 has 7 stored mantissa bits: all largest values of one binade with all smaller ones of ten, both signs."""
    mantissas = torch.arange(128, 256, dtype=torch.float64)
    smaller = (mantissas[:, None] * 2.0 ** -torch.arange(11)).flatten()
    smaller = torch.cat([smaller, -smaller])
    x = torch.where(smaller.abs() <= mantissas[:, None], smaller, 0.0)
    x[:, 0] = mantissas
    x = x.bfloat16().to(DEVICE)
    q, scale = quantize_rows(x, code)
    assert_equals_reference(x, code, q, scale)


@pytest.mark.parametrize("width", [4, 600])
@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("dtype", VALUES, ids=str)
@pytest.mark.parametrize("one_pass", [True, False], ids=["one_pass", "two_passes"])
def test_awkward_rows(dtype: torch.dtype, code: torch.dtype, width: int, one_pass: bool) -> None:
    x = awkward_rows(width, dtype, DEVICE)
    q, scale = quantize_rows(x, code, config=LaunchConfig(num_warps=1, tile=256, one_pass=one_pass))

    assert_equals_reference(x, code, q, scale)
    by_name = {name: (q[i].double(), scale[i].item()) for i, name in enumerate(AWKWARD)}
    for name in ("zero", "negative zero"):
        assert by_name[name][0].count_nonzero() == 0
        assert by_name[name][1] == SMALLEST_SCALE
    for name in AWKWARD[:FINITE]:
        assert SMALLEST_SCALE <= by_name[name][1] < math.inf
    for name in ("infinity", "negative infinity"):
        assert by_name[name][0].count_nonzero() == 0
        assert by_name[name][1] == math.inf
    for name in ("nan", "infinity and nan"):
        assert by_name[name][0].count_nonzero() == 0
        assert math.isnan(by_name[name][1])
    assert dequantize(q, scale)[FINITE:].isnan().all(), "a row that was not finite must stay visible"


@pytest.mark.parametrize("width", [1, 40_000, 100_000])
@pytest.mark.parametrize("dtype", VALUES, ids=str)
def test_extreme_widths(dtype: torch.dtype, width: int) -> None:
    x = random_rows(2, width, dtype, DEVICE)
    q, scale = quantize_rows(x)
    assert_equals_reference(x, torch.int8, q, scale)


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_widths_of_the_models(width: int, code: torch.dtype) -> None:
    x = random_rows(2, width, torch.bfloat16, DEVICE, seed=width)
    q, scale = quantize_rows(x, code)
    assert_equals_reference(x, code, q, scale)


@pytest.mark.parametrize("dtype", VALUES, ids=str)
def test_int8_against_other_arithmetic(dtype: torch.dtype) -> None:
    """Dividing by the rounded scale, in fp32 or fp64, decides ties otherwise: at most 1e-3 of the codes, each by 1."""
    x = random_rows(48, 3584, dtype, DEVICE, seed=11)
    q, scale = quantize_rows(x)
    quotient = quotients(x, torch.int8)
    at_tie = (quotient.abs() % 1 - 0.5).abs() <= 127 * 2**-23
    for other in ((x.float() / scale[:, None]).round(), (x.double() / scale.double()[:, None]).round()):
        difference = (q.double() - other.double()).abs()
        assert difference.max() <= 1
        assert difference.mean() <= 1e-3
        assert at_tie[difference != 0].all()


@examples
@given(values, widths, magnitudes, seeds)
def test_int8_round_trip(dtype: torch.dtype, width: int, magnitude: int, seed: int) -> None:
    x = random_rows(2, width, torch.float64, "cpu", seed) * 2.0**magnitude
    largest = torch.finfo(dtype).max
    x = x.clamp(-largest, largest).to(dtype).to(DEVICE)
    q, scale = quantize_rows(x)
    # Up to 127 times the roundings of s and of 1 / s come on top of one half.
    assert round_trip_error(x, q, scale) <= 0.5 + 127 * 2**-22


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("exponent", [-9.1, -12, -20, -60, -110])
def test_small_rows_come_back_at_their_size(exponent: float, code: torch.dtype) -> None:
    """A published kernel clamped the scale but not the multiplier: rows below 1/512 came back 19.5 times larger."""
    x = random_rows(4, 300, torch.float32, DEVICE, seed=3)
    x = x / x.abs().amax(dim=1, keepdim=True) * 2.0**exponent
    back = dequantize(*quantize_rows(x, code))
    step = 2.0**exponent * (1 / 254 if code is torch.int8 else 1 / 28)
    assert (back - x).abs().max() <= step * 1.001


@pytest.mark.parametrize("dtype", VALUES, ids=str)
@pytest.mark.parametrize("code", CODES, ids=str)
def test_largest_value_gets_the_largest_code(code: torch.dtype, dtype: torch.dtype) -> None:
    x = random_rows(64, 70, dtype, DEVICE, seed=4)
    x[::2] *= torch.finfo(dtype).max / 8
    q, scale = quantize_rows(x, code)
    reached = q.float().abs().amax(dim=1)
    assert torch.equal(reached, torch.full_like(reached, LARGEST_CODE[code]))
    assert scale.isfinite().all()


@pytest.mark.skipif(not HAS_FP8, reason="needs compute capability 8.9 or more for FP8")
def test_fp8_keeps_the_sign_of_zero() -> None:
    x = random_rows(32, 16, torch.float32, DEVICE, seed=8)
    x[:, 0], x[:, 1] = -0.0, 0.0
    q, _ = quantize_rows(x, FP8)
    assert q.view(torch.uint8)[:, :2].tolist() == [[0x80, 0x00]] * 32


@pytest.mark.skipif(not HAS_FP8, reason="needs compute capability 8.9 or more for FP8")
@examples
@given(values, st.integers(1, 300), seeds)
def test_fp8_round_trip(dtype: torch.dtype, width: int, seed: int) -> None:
    x = random_rows(2, width, dtype, DEVICE, seed)
    q, _ = quantize_rows(x, FP8)
    quotient = quotients(x, FP8)
    # Half a step: 2**-4 of the value for normal numbers, 2**-10 for subnormal ones.
    allowed = (quotient.abs() * 2**-4).clamp_min(2**-10) * (1 + 1e-6)
    assert ((q.double() - quotient).abs() <= allowed).all()


@examples
@given(values, codes, st.integers(1, 400), st.integers(1, 5), layouts, configs, seeds)
def test_a_row_does_not_depend_on_its_position(
    dtype: torch.dtype,
    code: torch.dtype,
    width: int,
    rows: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    row = random_rows(1, width, dtype, DEVICE, seed)
    alone_q, alone_scale = quantize_rows(row, code)
    x = laid_out(row.expand(rows, width), layout)
    q, scale = quantize_rows(x, code, config=config)
    assert torch.equal(q.view(torch.uint8), alone_q.view(torch.uint8).expand(rows, width))
    assert torch.equal(scale, alone_scale.expand(rows))


@pytest.mark.parametrize("width", [1, 16, 100, 257, 1040])
@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("one_pass", [True, False], ids=["one_pass", "two_passes"])
def test_writes_every_code_and_nothing_else(code: torch.dtype, width: int, one_pass: bool) -> None:
    x = random_rows(3, width, torch.bfloat16, DEVICE)
    x[1, width // 2] = math.nan
    config = LaunchConfig(num_warps=1, tile=256, one_pass=one_pass)
    expected_q, expected_scale = quantize_rows_reference(x, code)
    for poison in (0x55, 0x2A):
        room = torch.full((5, width + 32), poison, dtype=torch.uint8, device=DEVICE)
        scales = torch.full((5,), float(poison), device=DEVICE)
        out = room.view(code)[1:4, 16 : 16 + width], scales[1:4]
        q, scale = quantize_rows(x, code, config=config, out=out)
        assert q is out[0]
        assert scale is out[1]
        assert_same_scales(scale, expected_scale)
        assert torch.equal(q.view(torch.uint8), expected_q.view(torch.uint8))
        q.view(torch.uint8).fill_(poison)
        scale.fill_(poison)
        assert (room == poison).all()
        assert (scales == poison).all()


@pytest.mark.parametrize("code", CODES, ids=str)
def test_repeats_bit_for_bit(code: torch.dtype) -> None:
    x = random_rows(8, 3584, torch.bfloat16, DEVICE)
    first_q, first_scale = quantize_rows(x, code)
    for _ in range(3):
        q, scale = quantize_rows(x, code)
        assert torch.equal(q.view(torch.uint8), first_q.view(torch.uint8))
        assert torch.equal(scale, first_scale)


@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (3, 0)], ids=str)
@pytest.mark.parametrize("code", CODES, ids=str)
def test_empty(shape: tuple[int, int], code: torch.dtype) -> None:
    x = torch.empty(shape, dtype=torch.bfloat16, device=DEVICE)
    q, scale = quantize_rows(x, code)
    expected_q, expected_scale = quantize_rows_reference(x, code)
    assert (q.shape, q.dtype) == (expected_q.shape, expected_q.dtype) == (x.shape, code)
    assert torch.equal(scale, expected_scale)
    assert scale.tolist() == [SMALLEST_SCALE] * shape[0]


def test_wrong_input_type() -> None:
    message = "quantize_rows: x is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32"
    with pytest.raises(TypeError) as caught:
        quantize_rows(torch.zeros(2, 2, dtype=torch.float64, device=DEVICE))
    assert str(caught.value) == message


def test_wrong_code_type() -> None:
    with pytest.raises(TypeError) as caught:
        quantize_rows(torch.zeros(2, 2, device=DEVICE), torch.uint8)
    assert str(caught.value) == "quantize_rows: dtype is torch.uint8; it must be torch.int8 or torch.float8_e4m3fn"


def test_wrong_dimensions() -> None:
    with pytest.raises(ValueError) as caught:
        quantize_rows(torch.zeros(2, 3, 4, device=DEVICE))
    assert str(caught.value) == "quantize_rows: x has 3 dimensions; it must have 2, rows and columns"


def test_wrong_device() -> None:
    with pytest.raises(ValueError) as caught:
        quantize_rows(torch.zeros(2, 2, device="meta"))
    hint = {
        "cpu": "with TRITON_INTERPRET=1 it must be on the CPU",
        "cuda": "it must be on a GPU; on a CPU the kernel runs in Triton's interpreter, with TRITON_INTERPRET=1",
    }[DEVICE]
    assert str(caught.value) == f"quantize_rows: x is on meta; {hint}"


def test_too_wide() -> None:
    x = torch.zeros(1, 1, device=DEVICE).expand(1, 2**30 + 1)
    with pytest.raises(ValueError) as caught:
        quantize_rows(x)
    assert str(caught.value) == "quantize_rows: x has rows of 1073741825 elements; at most 1073741824 are supported"


def test_wrong_out() -> None:
    x = torch.zeros(2, 3, device=DEVICE)
    q, scale = torch.empty(2, 3, dtype=torch.int8, device=DEVICE), torch.empty(2, device=DEVICE)
    where = str(x.device)
    with pytest.raises(ValueError) as caught:
        quantize_rows(x, out=(torch.empty(3, 2, dtype=torch.int8, device=DEVICE).t(), scale))
    assert str(caught.value) == (
        f"quantize_rows: out[0] must be [2, 3] torch.int8 on {where} with unit column stride; "
        f"it is [2, 3] torch.int8 on {where} with strides [1, 2]"
    )
    with pytest.raises(ValueError) as caught:
        quantize_rows(x, out=(q, scale.double()))
    assert str(caught.value) == (
        f"quantize_rows: out[1] must be [2] torch.float32 on {where}, contiguous; "
        f"it is [2] torch.float64 on {where} with strides [1]"
    )


def test_fp8_without_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    from perf_kernels.row_quantization import kernel

    monkeypatch.setattr(kernel, "current_target", lambda: Target("cuda", 80, 32))
    with pytest.raises(ValueError) as caught:
        quantize_rows(torch.zeros(2, 2, device=DEVICE), FP8)
    assert str(caught.value) == (
        "quantize_rows: torch.float8_e4m3fn needs compute capability 8.9 or more; this device has 8.0"
    )


@examples
@given(st.integers(1, 2**17), st.integers(1, 2**20), st.sampled_from([2, 4]), st.sampled_from([32, 64]))
def test_launch_covers_the_row(rows: int, width: int, itemsize: int, lanes: int) -> None:
    config = launch_config(rows, width, itemsize, lanes)
    assert config.num_warps in (1, 2, 4, 8, 16, 32)
    assert config.num_warps * lanes <= 1024
    # 16 bytes of input a thread.
    assert config.tile * itemsize == config.num_warps * lanes * 16
    assert (config.tiles(width) - 1) * config.tile < width <= config.tiles(width) * config.tile
    assert config.one_pass == (config.tiles(width) <= 10)


@pytest.mark.parametrize("width", [*WIDTHS, 37888])
def test_few_lanes_idle_at_the_widths_of_the_models(width: int) -> None:
    config = launch_config(65536, width, 2)
    assert config.one_pass
    assert 1 - width / (config.tiles(width) * config.tile) <= 0.08


def test_widths_of_the_grid() -> None:
    assert WIDTHS == (2048, 3072, 3584, 5120, 8192, 13824, 18944)


def test_bytes_moved() -> None:
    assert bytes_moved(rows=65536, width=18944, itemsize=2) == 65536 * (18944 * 3 + 4)


def test_reference_of_a_known_row() -> None:
    x = torch.tensor([[254.0, -254.0, 1.0, 3.0, -1.0, 0.5, 100.0]])
    q, scale = quantize_rows_reference(x)
    assert q.tolist() == [[127, -127, 0, 2, 0, 0, 50]]
    assert scale.tolist() == [2.0]
    q, scale = quantize_rows_reference(torch.tensor([[448.0, 17.0, 19.0, -1.0, 2.0**-10, 3 * 2.0**-10]]), FP8)
    assert q.float().tolist() == [[448.0, 16.0, 20.0, -1.0, 0.0, 2.0**-8]]
    assert scale.tolist() == [1.0]


@pytest.mark.skipif(DEVICE == "cuda", reason="the interpreter is not used on a GPU")
def test_interpreter_rounds_as_a_gpu() -> None:
    x = torch.tensor([[448.0, 1.9375, 1.0625, -1.1875, 2.0**-10, 3 * 2.0**-10, 1.25 * 2.0**-9]])
    q, _ = quantize_rows(x, FP8)
    assert q.float().tolist() == [[448.0, 2.0, 1.0, -1.25, 0.0, 2.0**-8, 2.0**-9]]
