"""Does the kernel give the quantised product: any type, width, stride, position, launch, and awkward values?

What it computes before it quantises has no one right answer in fp32: its error against fp64 may be at most twice that
of plain torch. Where the product is exact, codes and scales are those of row quantisation, bit for bit.
"""

from __future__ import annotations

import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import silu

from perf_kernels.model_shapes import MODELS
from perf_kernels.row_quantization import dequantize, quantize_rows, quantize_rows_reference
from perf_kernels.row_quantization.inputs import random_rows
from perf_kernels.row_quantization.reference import LARGEST_CODE, SMALLEST_SCALE
from perf_kernels.silu_mul_quantization import (
    LaunchConfig,
    bytes_moved,
    launch_config,
    product,
    silu_mul_quantize,
    silu_mul_quantize_reference,
)
from perf_kernels.silu_mul_quantization.inputs import random_gate_up
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
widths = st.one_of(st.integers(1, 80), st.integers(1, 700), st.sampled_from([255, 256, 257, 512]))
configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig, num_warps=st.sampled_from([1, 2, 4]), tile=st.sampled_from([128, 256]), one_pass=st.booleans()
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


def assert_same(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    (q, scale), (expected_q, expected_scale) = found, expected
    assert (q.shape, q.dtype, scale.dtype) == (expected_q.shape, expected_q.dtype, torch.float32)
    assert torch.equal(scale.isnan(), expected_scale.isnan())
    assert torch.equal(scale.nan_to_num(-1.0), expected_scale.nan_to_num(-1.0))
    assert torch.equal(q.view(torch.uint8), expected_q.view(torch.uint8))


@examples
@given(values, codes, st.integers(1, 4), widths, st.integers(-12, 8), layouts, configs, seeds)
def test_close_to_reference(
    dtype: torch.dtype,
    code: torch.dtype,
    rows: int,
    width: int,
    magnitude: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    gate_up = random_gate_up(rows, width, torch.float64, "cpu", seed)
    # Beyond the range of fp16 rows would be infinite.
    gate_up[:, width:] *= 2.0**magnitude
    gate_up = laid_out(gate_up.to(dtype).to(DEVICE), layout)
    q, scale = silu_mul_quantize(gate_up, code, config=config)
    assert q.is_contiguous()
    assert (q.shape, q.dtype, scale.shape) == ((rows, width), code, (rows,))
    _, expected_scale = silu_mul_quantize_reference(gate_up, code)
    # A product may be rounded to its other neighbour, the largest of a row as well. fp16 is subnormal below 2**-14.
    step = torch.finfo(dtype).eps
    near = torch.full_like(scale, 2.0**-24 / LARGEST_CODE[code] if dtype is torch.float16 else 0.0)
    assert ((scale - expected_scale).abs() <= torch.maximum(expected_scale * max(step, 2.0**-20), near)).all()
    y = product(gate_up)
    coarse = y.abs() * step + (2.0**-24 if dtype is torch.float16 else 0.0)
    half = (
        0.5 * scale.double()[:, None] if code is torch.int8 else torch.maximum(y.abs() * 2**-4, scale[:, None] * 2**-10)
    )
    error = (dequantize(q, scale).double() - y).abs()
    assert (error <= (half + coarse) * (1 + 2.0**-7)).all()


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("dtype", VALUES, ids=str)
def test_error_against_fp64(dtype: torch.dtype, code: torch.dtype) -> None:
    """At most twice the error of plain torch, operation by operation in the input's type."""
    gate_up = random_gate_up(24, 2048, dtype, DEVICE, seed=11)
    y = product(gate_up)
    gate, up = gate_up.chunk(2, dim=1)
    plain = dequantize(*quantize_rows_reference(silu(gate) * up, code)).double()
    ours = dequantize(*silu_mul_quantize(gate_up, code)).double()
    assert (ours - y).abs().max() <= 2 * (plain - y).abs().max()
    assert (ours - y).square().mean() <= 2 * (plain - y).square().mean()


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_few_codes_differ_from_reference(dtype: torch.dtype, code: torch.dtype) -> None:
    gate_up = random_gate_up(24, 2048, dtype, DEVICE, seed=12)
    q, scale = silu_mul_quantize(gate_up, code)
    expected_q, expected_scale = silu_mul_quantize_reference(gate_up, code)
    same = scale == expected_scale
    assert same.float().mean() >= 0.9
    different = q.view(torch.uint8)[same] != expected_q.view(torch.uint8)[same]
    assert different.float().mean() <= 1e-3


@examples
@given(values, codes, widths, st.integers(-30, 6), configs, seeds)
def test_exact_products_equal_row_quantization(
    dtype: torch.dtype, code: torch.dtype, width: int, magnitude: int, config: LaunchConfig | None, seed: int
) -> None:
    """silu(128) is 128 in fp32, so the product is up with another exponent."""
    up = (random_rows(3, width, torch.float64, "cpu", seed) * 2.0**magnitude).to(dtype).to(DEVICE)
    gate_up = torch.cat([torch.full_like(up, 128.0), up], dim=1)
    assert_same(silu_mul_quantize(gate_up, code, config=config), quantize_rows(up * 128, code))


@pytest.mark.parametrize("one_pass", [True, False], ids=["one_pass", "two_passes"])
@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("dtype", VALUES, ids=str)
def test_awkward_rows(dtype: torch.dtype, code: torch.dtype, one_pass: bool) -> None:
    width = 300
    largest = torch.finfo(dtype).max
    rows = {
        "gate of zero": (0.0, 3.0, SMALLEST_SCALE),
        "up of zero": (3.0, 0.0, SMALLEST_SCALE),
        "negative gate far out": (-1e4, 2.0, SMALLEST_SCALE),
        "largest up": (128.0, largest, math.inf),
        "infinite up": (1.0, math.inf, math.inf),
        "infinite gate": (math.inf, 1.0, math.inf),
        "gate of minus infinity": (-math.inf, 1.0, math.nan),
        "zero times infinity": (0.0, -math.inf, math.nan),
        "nan gate": (math.nan, 1.0, math.nan),
        "nan up": (1.0, math.nan, math.nan),
    }
    gate = torch.zeros(len(rows), width)
    up = torch.zeros(len(rows), width)
    for i, (at_gate, at_up, _) in enumerate(rows.values()):
        gate[i, width // 2], up[i, width // 2] = at_gate, at_up
    gate_up = torch.cat([gate, up], dim=1).to(dtype).to(DEVICE)
    q, scale = silu_mul_quantize(gate_up, code, config=LaunchConfig(1, 128, one_pass))
    expected = torch.tensor([wanted for _, _, wanted in rows.values()])
    assert torch.equal(scale.cpu().nan_to_num(-1.0, posinf=-2.0), expected.nan_to_num(-1.0, posinf=-2.0))
    assert (q.view(torch.uint8) & 0x7F).count_nonzero() == 0
    assert_same((q, scale), (q, silu_mul_quantize_reference(gate_up, code)[1]))


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("width", sorted({model.intermediate for model in MODELS}))
def test_widths_of_the_models(width: int, code: torch.dtype) -> None:
    up = random_rows(2, width, torch.bfloat16, DEVICE, seed=width)
    gate_up = torch.cat([torch.full_like(up, 128.0), up], dim=1)
    assert_same(silu_mul_quantize(gate_up, code), quantize_rows_reference(up * 128, code))


@pytest.mark.parametrize("width", [1, 100_000])
def test_extreme_widths(width: int) -> None:
    up = random_rows(1, width, torch.bfloat16, DEVICE, seed=width)
    gate_up = torch.cat([torch.full_like(up, 128.0), up], dim=1)
    assert_same(silu_mul_quantize(gate_up), quantize_rows_reference(up * 128))


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
    row = random_gate_up(1, width, dtype, DEVICE, seed)
    alone_q, alone_scale = silu_mul_quantize(row, code)
    q, scale = silu_mul_quantize(laid_out(row.expand(rows, 2 * width), layout), code, config=config)
    assert torch.equal(q.view(torch.uint8), alone_q.view(torch.uint8).expand(rows, width))
    assert torch.equal(scale, alone_scale.expand(rows))


@pytest.mark.parametrize("width", [1, 16, 100, 257])
@pytest.mark.parametrize("one_pass", [True, False], ids=["one_pass", "two_passes"])
def test_writes_every_code_and_nothing_else(width: int, one_pass: bool) -> None:
    up = random_rows(3, width, torch.bfloat16, DEVICE)
    up[1, width // 2] = math.nan
    gate_up = torch.cat([torch.full_like(up, 128.0), up], dim=1)
    expected = quantize_rows_reference(up * 128)
    config = LaunchConfig(num_warps=1, tile=256, one_pass=one_pass)
    for poison in (0x55, 0x2A):
        room = torch.full((5, width + 32), poison, dtype=torch.int8, device=DEVICE)
        scales = torch.full((5,), float(poison), device=DEVICE)
        out = room[1:4, 16 : 16 + width], scales[1:4]
        q, scale = silu_mul_quantize(gate_up, config=config, out=out)
        assert q is out[0]
        assert scale is out[1]
        assert_same((q.clone(), scale), expected)
        q.fill_(poison)
        scale.fill_(poison)
        assert (room == poison).all()
        assert (scales == poison).all()


@pytest.mark.parametrize("shape", [(0, 6), (0, 0), (3, 0)], ids=str)
def test_empty(shape: tuple[int, int]) -> None:
    q, scale = silu_mul_quantize(torch.empty(shape, dtype=torch.bfloat16, device=DEVICE))
    assert (q.shape, q.dtype) == ((shape[0], shape[1] // 2), torch.int8)
    assert scale.tolist() == [SMALLEST_SCALE] * shape[0]


@pytest.mark.parametrize("code", CODES, ids=str)
def test_operator(code: torch.dtype) -> None:
    torch.library.opcheck(
        torch.ops.perf_kernels.silu_mul_quantize.default,
        (random_gate_up(3, 50, torch.bfloat16, DEVICE), code),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_in_a_compiled_model() -> None:
    def model(gate_up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q, scale = silu_mul_quantize(gate_up * 2)
        return q, scale * 2

    gate_up = random_gate_up(3, 70, torch.bfloat16, DEVICE)
    q, scale = torch.compile(model, backend="aot_eager", fullgraph=True)(gate_up)
    expected_q, expected_scale = silu_mul_quantize(gate_up * 2)
    assert torch.equal(q, expected_q)
    assert torch.equal(scale, expected_scale * 2)


def test_wrong_input_type() -> None:
    with pytest.raises(TypeError) as caught:
        silu_mul_quantize(torch.zeros(2, 2, dtype=torch.float64, device=DEVICE))
    assert str(caught.value) == (
        "silu_mul_quantize: gate_up is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32"
    )


def test_wrong_code_type() -> None:
    with pytest.raises(TypeError) as caught:
        silu_mul_quantize(torch.zeros(2, 2, device=DEVICE), torch.uint8)
    assert str(caught.value) == "silu_mul_quantize: dtype is torch.uint8; it must be torch.int8 or torch.float8_e4m3fn"


def test_wrong_dimensions() -> None:
    with pytest.raises(ValueError) as caught:
        silu_mul_quantize(torch.zeros(2, 3, 4, device=DEVICE))
    assert str(caught.value) == "silu_mul_quantize: gate_up has 3 dimensions; it must have 2, rows and columns"


def test_odd_width() -> None:
    with pytest.raises(ValueError) as caught:
        silu_mul_quantize(torch.zeros(2, 3, device=DEVICE))
    assert str(caught.value) == "silu_mul_quantize: gate_up has rows of 3 elements; it must have two equal halves"


def test_wrong_device() -> None:
    with pytest.raises(ValueError) as caught:
        silu_mul_quantize(torch.zeros(2, 2, device="meta"))
    hint = {
        "cpu": "with TRITON_INTERPRET=1 it must be on the CPU",
        "cuda": "it must be on a GPU; on a CPU the kernel runs in Triton's interpreter, with TRITON_INTERPRET=1",
    }[DEVICE]
    assert str(caught.value) == f"silu_mul_quantize: gate_up is on meta; {hint}"


def test_too_wide() -> None:
    with pytest.raises(ValueError) as caught:
        silu_mul_quantize(torch.zeros(1, 1, device=DEVICE).expand(1, 2**30 + 2))
    assert str(caught.value) == (
        "silu_mul_quantize: gate_up has rows of 1073741826 elements; at most 1073741824 are supported"
    )


def test_wrong_out() -> None:
    gate_up = torch.zeros(2, 6, device=DEVICE)
    q, scale = torch.empty(2, 3, dtype=torch.int8, device=DEVICE), torch.empty(2, device=DEVICE)
    where = str(gate_up.device)
    with pytest.raises(ValueError) as caught:
        silu_mul_quantize(gate_up, out=(torch.empty(3, 2, dtype=torch.int8, device=DEVICE).t(), scale))
    assert str(caught.value) == (
        f"silu_mul_quantize: out[0] must be [2, 3] torch.int8 on {where} with unit column stride; "
        f"it is [2, 3] torch.int8 on {where} with strides [1, 2]"
    )
    with pytest.raises(ValueError) as caught:
        silu_mul_quantize(gate_up, out=(q, scale.double()))
    assert str(caught.value) == (
        f"silu_mul_quantize: out[1] must be [2] torch.float32 on {where}, contiguous; "
        f"it is [2] torch.float64 on {where} with strides [1]"
    )


def test_fp8_without_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    from perf_kernels.silu_mul_quantization import kernel

    monkeypatch.setattr(kernel, "current_target", lambda: Target("cuda", 80, 32))
    with pytest.raises(ValueError) as caught:
        silu_mul_quantize(torch.zeros(2, 2, device=DEVICE), FP8)
    assert str(caught.value) == (
        "silu_mul_quantize: torch.float8_e4m3fn needs compute capability 8.9 or more; this device has 8.0"
    )


@examples
@given(st.integers(1, 2**17), st.integers(1, 2**20), st.sampled_from([2, 4]), st.sampled_from([32, 64]))
def test_launch_covers_the_row(rows: int, width: int, itemsize: int, lanes: int) -> None:
    config = launch_config(rows, width, itemsize, lanes)
    assert config.num_warps * lanes <= 1024
    # 16 bytes of gate a thread.
    assert config.tile * itemsize == config.num_warps * lanes * 16
    assert (config.tiles(width) - 1) * config.tile < width <= config.tiles(width) * config.tile
    assert config.one_pass == (config.tiles(width) <= 10)


def test_bytes_moved() -> None:
    assert bytes_moved(rows=65536, width=18944, itemsize=2) == 65536 * (18944 * 5 + 4)
