"""How does one pass over memory quantise the rows of a matrix on a GPU?

``a = max |x|``, ``s = max(a / Q, 2**-126)``, ``q = round_half_even(x / s)`` with Q = 127 (INT8) or 448 (FP8 e4m3).

The figures an element costs decide whether such a kernel is bound by memory or by the instructions it issues:

- The largest magnitude is a maximum over bit patterns without their sign, as integers. NaN sorts above infinity, so it
  propagates, and two 16-bit patterns share one instruction on sm_90.
- INT8 from bf16: ``fma(x, 1 / s, 12582912)`` rounds to nearest even; the low byte of the sum's bits is the code. No
  clamp is needed: ``|x| / s <= Q`` before rounding.
- Otherwise two terms of 1 / s give x / s to the last bit of an fp32, so that its ties are ties, and that is rounded.
- Row offsets are 64 bits wide: ``row * stride`` passes 2**31 at a prompt of 65536 tokens.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from perf_kernels.row_quantization.launch import LaunchConfig, launch_config, shape_class
from perf_kernels.row_quantization.reference import LARGEST_CODE, SMALLEST_SCALE
from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE, current_target
from perf_kernels.tuned import Chooser

#: Wider rows would overflow the 32-bit loop over a row's tiles.
MAX_WIDTH = 2**30

_SMALLEST_SCALE = tl.constexpr(SMALLEST_SCALE)
#: 1.5 * 2**23: floats of this size are spaced by 1, so adding it rounds to an integer, to nearest even.
_ROUNDER = tl.constexpr(12582912.0)


@triton.jit
def _magnitude(x):
    """Give the bits of |x| as an integer of x's width: they sort as the magnitudes do, NaN above infinity."""
    if x.dtype.primitive_bitwidth == 16:
        return x.to(tl.int16, bitcast=True) & 0x7FFF
    else:
        return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def _scale_and_inverse(largest, LARGEST: tl.constexpr, INTEGER: tl.constexpr):
    """Give s, 1 / s and what 1 / s lacks of LARGEST / largest, for a row whose largest magnitude is finite.

    For integers 1 / s is never too small: in bf16 one element in a thousand is exactly half the largest, the tie 63.5,
    which an inverse below the true one would take to 63, and any other takes to 64, the even neighbour. (All other ties
    of bf16 are in rows whose scale is a power of two, which is exact.) For floats 1 / s is never too large: what it
    lacks is then positive or 0, and a product with it keeps the sign of a zero.
    """
    largest = tl.maximum(largest, LARGEST * _SMALLEST_SCALE)
    # A quotient by a constant, correctly rounded: the residual of the first guess is exact.
    scale = largest * (1.0 / LARGEST)
    scale = tl.fma(tl.fma(scale, -LARGEST, largest), 1.0 / LARGEST, scale)
    # One Newton step: hardware division is good to two units in the last place, and differs between vendors.
    inverse = 1.0 / scale
    inverse = tl.fma(tl.fma(inverse, -largest, LARGEST) * (1.0 / LARGEST), inverse, inverse)
    lack = tl.fma(inverse, -largest, LARGEST)
    step = tl.where(lack > 0.0, 1, 0) if INTEGER else tl.where(lack < 0.0, -1, 0)
    inverse = (inverse.to(tl.int32, bitcast=True) + step).to(tl.float32, bitcast=True)
    lack = tl.fma(inverse, -largest, LARGEST) * (1.0 / LARGEST) * inverse
    return scale, inverse, lack


@triton.jit
def _codes(x, inverse, lack, dtype: tl.constexpr):
    """Give round(x / s) in the output type."""
    if dtype == tl.int8 and x.dtype == tl.bfloat16:
        return tl.fma(x.to(tl.float32), inverse, _ROUNDER).to(tl.int32, bitcast=True).to(tl.int8)
    x = x.to(tl.float32)
    quotient = tl.fma(x, inverse, x * lack)
    if dtype == tl.int8:
        return (quotient + _ROUNDER).to(tl.int32, bitcast=True).to(tl.int8)
    else:
        return quotient.to(dtype)


@triton.jit
def _one_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width,
    x_row_stride,
    x_column_stride,
    q_row_stride,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """Quantise one row a program, kept in registers as ``TILES`` tiles; the last is masked if ``RAGGED``."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    code_type: tl.constexpr = q_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_row_stride
    q_row = q_ptr + row * q_row_stride
    lane = tl.arange(0, TILE)

    # Every load is issued before the first value is used.
    parts = ()
    for i in tl.static_range(TILES):
        column = i * TILE + lane
        pointers = x_row + column.to(tl.int64) * x_column_stride
        if RAGGED and i == TILES - 1:
            parts = parts + (tl.load(pointers, mask=column < width, other=0.0),)  # noqa: RUF005 - Triton has no starred tuples
        else:
            parts = parts + (tl.load(pointers),)  # noqa: RUF005

    top = _magnitude(parts[0])
    for i in tl.static_range(1, TILES):
        top = tl.maximum(top, _magnitude(parts[i]))
    largest = tl.max(top, axis=0).to(top.dtype).to(input_type, bitcast=True).to(tl.float32)

    if largest < float("inf"):
        scale, inverse, lack = _scale_and_inverse(largest, LARGEST, code_type == tl.int8)
        tl.store(scale_ptr + row, scale)
        for i in tl.static_range(TILES):
            column = i * TILE + lane
            codes = _codes(parts[i], inverse, lack, code_type)
            if RAGGED and i == TILES - 1:
                tl.store(q_row + column, codes, mask=column < width)
            else:
                tl.store(q_row + column, codes)
    else:
        tl.store(scale_ptr + row, largest)
        for i in tl.static_range(TILES):
            column = i * TILE + lane
            tl.store(q_row + column, tl.zeros([TILE], tl.float32).to(code_type), mask=column < width)


@triton.jit
def _two_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width,
    x_row_stride,
    x_column_stride,
    q_row_stride,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
):
    """Quantise one row a program, read twice: for rows that do not fit in registers."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    code_type: tl.constexpr = q_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_row_stride
    q_row = q_ptr + row * q_row_stride
    lane = tl.arange(0, TILE)

    top = _magnitude(tl.zeros([TILE], input_type))
    for i in range(TILES):
        column = i * TILE + lane
        x = tl.load(x_row + column.to(tl.int64) * x_column_stride, mask=column < width, other=0.0)
        top = tl.maximum(top, _magnitude(x))
    largest = tl.max(top, axis=0).to(top.dtype).to(input_type, bitcast=True).to(tl.float32)

    if largest < float("inf"):
        scale, inverse, lack = _scale_and_inverse(largest, LARGEST, code_type == tl.int8)
        tl.store(scale_ptr + row, scale)
        for i in range(TILES):
            column = i * TILE + lane
            x = tl.load(x_row + column.to(tl.int64) * x_column_stride, mask=column < width, other=0.0)
            tl.store(q_row + column, _codes(x, inverse, lack, code_type), mask=column < width)
    else:
        tl.store(scale_ptr + row, largest)
        for i in range(TILES):
            column = i * TILE + lane
            tl.store(q_row + column, tl.zeros([TILE], tl.float32).to(code_type), mask=column < width)


def quantize_rows(
    x: torch.Tensor,
    dtype: torch.dtype = torch.int8,
    *,
    config: LaunchConfig | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise each row of ``x`` with a scale of its own.

    A row of zeros gives codes 0 and the smallest scale, 2**-126. A row that holds an infinity but no NaN gives the
    scale inf, one that holds a NaN the scale NaN; the codes of both are 0, so that ``q * scale`` is NaN and the damage
    stays visible. A result depends on the row's values alone, not on its position, its strides or the launch. It equals
    :func:`quantize_rows_reference` bit for bit; INT8 codes from fp32 may differ by 1 where ``x / s`` is within fp32
    rounding of a tie.

    Args:
        x: [M, K] bf16, fp16 or fp32, any strides. Unit column stride and rows that start at multiples of 16 elements
            are fast; other strides are correct.
        dtype: ``torch.int8`` or ``torch.float8_e4m3fn``.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
        out: tensors to write to, ``q`` [M, K] of ``dtype`` with unit column stride and ``scale`` [M] fp32, contiguous.

    Returns:
        ``q``: [M, K] ``dtype``, and ``scale``: [M] fp32. ``q * scale[:, None]`` approximates ``x``.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape, device or ``out`` that cannot be used.
    """
    if x.dtype not in _INPUT_TYPES:
        raise TypeError(f"quantize_rows: x is {x.dtype}; it must be torch.bfloat16, torch.float16 or torch.float32")
    if dtype not in LARGEST_CODE:
        raise TypeError(f"quantize_rows: dtype is {dtype}; it must be torch.int8 or torch.float8_e4m3fn")
    if x.ndim != 2:
        raise ValueError(f"quantize_rows: x has {x.ndim} dimensions; it must have 2, rows and columns")
    if x.device.type != DEVICE_TYPE:
        raise ValueError(f"quantize_rows: x is on {x.device}; {DEVICE_HINT}")
    target = current_target()
    if dtype is torch.float8_e4m3fn and not target.has_fp8:
        raise ValueError(
            f"quantize_rows: torch.float8_e4m3fn needs compute capability 8.9 or more; this device has "
            f"{int(target.arch) / 10}"
        )
    rows, width = x.shape
    if width > MAX_WIDTH:
        raise ValueError(f"quantize_rows: x has rows of {width} elements; at most {MAX_WIDTH} are supported")
    if out is None:
        q = torch.empty((rows, width), dtype=dtype, device=x.device)
        scale = torch.empty((rows,), dtype=torch.float32, device=x.device)
    else:
        q, scale = _checked_out(out, x, dtype)
    if rows == 0:
        return q, scale
    if width == 0:
        return q, scale.fill_(SMALLEST_SCALE)
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            _launch(x, q, scale, config)
    else:
        _launch(x, q, scale, config)
    return q, scale


_INPUT_TYPES = frozenset({torch.bfloat16, torch.float16, torch.float32})


def _fallback(rows: int, width: int, itemsize: int, integer: bool) -> LaunchConfig:
    return launch_config(rows, width, itemsize, current_target().lanes)


choose = Chooser("row_quantization", _fallback, shape_class)


def _launch(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, config: LaunchConfig | None) -> None:
    rows, width = x.shape
    if config is None:
        config = choose(rows, width, x.element_size(), q.dtype == torch.int8)
    row_stride, column_stride = x.stride()
    tile, tiles = config.tile, config.tiles(width)
    arguments = (x, q, scale, width, row_stride, column_stride, q.stride(0), LARGEST_CODE[q.dtype], tile, tiles)
    if config.one_pass:
        _one_pass_kernel[(rows,)](*arguments, tiles * tile != width, num_warps=config.num_warps)
    else:
        _two_pass_kernel[(rows,)](*arguments, num_warps=config.num_warps)


def _checked_out(
    out: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give ``out`` if it can take the result for ``x``, else raise ValueError."""
    q, scale = out
    if q.shape != x.shape or q.dtype != dtype or q.device != x.device or (q.numel() and q.stride(1) != 1):
        raise ValueError(
            f"quantize_rows: out[0] must be {list(x.shape)} {dtype} on {x.device} with unit column stride; "
            f"it is {list(q.shape)} {q.dtype} on {q.device} with strides {list(q.stride())}"
        )
    if (
        scale.shape != x.shape[:1]
        or scale.dtype != torch.float32
        or scale.device != x.device
        or not scale.is_contiguous()
    ):
        raise ValueError(
            f"quantize_rows: out[1] must be {[x.shape[0]]} torch.float32 on {x.device}, contiguous; "
            f"it is {list(scale.shape)} {scale.dtype} on {scale.device} with strides {list(scale.stride())}"
        )
    return q, scale
