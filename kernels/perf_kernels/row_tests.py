"""What do the tests of all kernels of rows need? Types and strategies, ways to lay out rows, and strict comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from perf_kernels.row_inputs import AWKWARD, FINITE, random_rows
from perf_kernels.row_launch import LaunchConfig
from perf_kernels.rows import SMALLEST_SCALE
from perf_kernels.target import DEVICE_TYPE

DEVICE = DEVICE_TYPE
FP8 = torch.float8_e4m3fn
HAS_FP8 = DEVICE == "cpu" or torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 9)
VALUES = [torch.bfloat16, torch.float16, torch.float32]
CODES = [torch.int8, FP8] if HAS_FP8 else [torch.int8]
#: What a launcher says of a tensor that is elsewhere.
WRONG_DEVICE = {
    "cpu": "with TRITON_INTERPRET=1 it must be on the CPU",
    "cuda": "it must be on a GPU; on a CPU the kernel runs in Triton's interpreter, with TRITON_INTERPRET=1",
}[DEVICE]
LAYOUTS = ("contiguous", "padded rows", "odd padding", "offset", "transposed", "every other column", "repeated")

examples = settings.get_profile("perf_kernels")
values = st.sampled_from(VALUES)
codes = st.sampled_from(CODES)
layouts = st.sampled_from(LAYOUTS)
seeds = st.integers(0, 2**31 - 1)
#: Binary exponents of a row's standard deviation, down to subnormal rows and up to where fp16 still holds them.
magnitudes = st.one_of(st.integers(-20, 12), st.integers(-140, 110))
#: How a kernel that keeps a row in tiles is launched: by default, or forced.
tile_configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        num_warps=st.sampled_from([1, 2, 4]),
        tile=st.sampled_from([128, 256]),
        one_pass=st.booleans(),
    ),
)

by_value = pytest.mark.parametrize("dtype", VALUES, ids=str)
by_code = pytest.mark.parametrize("code", CODES, ids=str)
by_passes = pytest.mark.parametrize("one_pass", [True, False], ids=["one_pass", "two_passes"])


def rows_of_size(rows: int, width: int, dtype: torch.dtype, magnitude: int, seed: int) -> torch.Tensor:
    """Draw rows of a standard deviation of ``2**magnitude`` on the device, finite in ``dtype``."""
    x = random_rows(rows, width, torch.float64, "cpu", seed) * 2.0**magnitude
    largest = torch.finfo(dtype).max
    return x.clamp(-largest, largest).to(dtype).to(DEVICE)


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Give a tensor equal to ``x`` in value with the strides that ``layout`` names; "repeated" is its first row."""
    rows, width = x.shape
    if layout == "contiguous":
        return x.contiguous()
    if layout == "transposed":
        return x.t().contiguous().t()
    if layout == "repeated":
        # A row stride of 0.
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


Quantized = tuple[torch.Tensor, torch.Tensor]


def assert_same(found: Quantized, expected: Quantized) -> None:
    """Compare codes and scales bit for bit; NaN equals NaN."""
    assert_same_scales(found[1], expected[1])
    (q, _), (expected_q, _) = found, expected
    assert (q.shape, q.dtype) == (expected_q.shape, expected_q.dtype)
    different = q.view(torch.uint8) != expected_q.view(torch.uint8)
    assert not different.any(), f"{int(different.sum())} codes differ, first at {different.nonzero()[0].tolist()}"


def assert_same_scales(scale: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare scales bit for bit; NaN equals NaN."""
    assert scale.shape == expected.shape
    assert scale.dtype == expected.dtype == torch.float32
    assert torch.equal(scale.isnan(), expected.isnan())
    numbers = ~expected.isnan()
    assert torch.equal(scale[numbers].view(torch.int32), expected[numbers].view(torch.int32))


def assert_same_at_any_position(
    alone: Quantized, quantize: Callable[[torch.Tensor], Quantized], row: torch.Tensor, rows: int, layout: str
) -> None:
    """Quantise a row [1, K] ``rows`` times, in a layout: it must give each time what it gave ``alone``, bit for bit."""
    q, scale = quantize(laid_out(row.expand(rows, -1), layout))
    assert_same((q[:rows], scale[:rows]), (alone[0][:1].expand(rows, -1), alone[1][:1].expand(rows)))


def assert_awkward_rows_are_told(q: torch.Tensor, scale: torch.Tensor) -> None:
    """Check what :func:`awkward_rows` must give: zeros, finite scales, and damage that stays visible."""
    by_name = {name: (q[i].double(), scale[i].item()) for i, name in enumerate(AWKWARD)}
    for name in ("zero", "negative zero"):
        assert by_name[name][0].count_nonzero() == 0
        assert by_name[name][1] == SMALLEST_SCALE
    for name in AWKWARD[:FINITE]:
        assert SMALLEST_SCALE <= by_name[name][1] < math.inf
    for name in ("infinity", "negative infinity"):
        assert by_name[name][1] == math.inf
    for name in ("nan", "infinity and nan"):
        assert math.isnan(by_name[name][1])
    assert q[FINITE : len(AWKWARD)].view(torch.uint8).count_nonzero() == 0


def assert_writes_nothing_else(quantize: Callable[..., Quantized], expected: Quantized, margin: int = 16) -> None:
    """Let a kernel write into the middle of poisoned memory: all of its result is written, and nothing around it.

    Args:
        quantize: takes ``out``.
        expected: codes [M, K] and scales [M].
        margin: poisoned columns on either side; 0 where the codes must be contiguous.
    """
    expected_q, expected_scale = expected
    rows, width = expected_q.shape
    for poison in (0x55, 0x2A):
        room = torch.full((rows + 2, width + 2 * margin), poison, dtype=torch.uint8, device=DEVICE)
        scales = torch.full((rows + 2,), float(poison), device=DEVICE)
        out = room.view(expected_q.dtype)[1:-1, margin : margin + width], scales[1:-1]
        q, scale = quantize(out=out)
        assert q is out[0]
        assert scale is out[1]
        assert_same((q, scale), (expected_q, expected_scale))
        q.view(torch.uint8).fill_(poison)
        scale.fill_(poison)
        assert (room == poison).all()
        assert (scales == poison).all()


def refusal(error: type[Exception], call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """Give what a call says when it raises ``error``, which it must."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    return str(caught.value)
