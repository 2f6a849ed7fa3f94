"""How are the two halves of an MLP's input activated, multiplied and quantised in one pass over memory?

``y = round(silu(gate) up)`` with the arithmetic in fp32 and one rounding to the input's type, then row quantisation
(:mod:`perf_kernels.row_quantization.kernel`). vLLM's unfused pair writes y in that type too, so nothing that its
quantisation sees is lost here; it also rounds silu(gate) before it multiplies, which is not repeated. Rounded products
take half the registers of fp32 ones, and a row of 18944 stays in them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from perf_kernels.row_quantization.kernel import _codes, _magnitude, _scale_and_inverse
from perf_kernels.row_quantization.reference import LARGEST_CODE, SMALLEST_SCALE
from perf_kernels.silu_mul_quantization.launch import LaunchConfig, launch_config, shape_class
from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE, current_target
from perf_kernels.tuned import Chooser

#: Wider inputs would overflow the 32-bit loop over a row's tiles.
MAX_WIDTH = 2**30

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _load(gate_row, up_row, column_stride, column, width, MASKED: tl.constexpr):
    """Load [TILE] columns of both halves; past the end of a row they are 0."""
    offset = column.to(tl.int64) * column_stride
    mask = column < width if MASKED else None
    other = 0.0 if MASKED else None
    return tl.load(gate_row + offset, mask=mask, other=other), tl.load(up_row + offset, mask=mask, other=other)


@triton.jit
def _product(gate, up):
    """Give silu(gate) up in the type of both; silu(-inf) is NaN, as in torch."""
    wide = gate.to(tl.float32)
    return (wide / (1.0 + tl.exp2(wide * -_LOG2_E)) * up.to(tl.float32)).to(gate.dtype)


@triton.jit
def _one_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width,
    up_offset,
    x_row_stride,
    x_column_stride,
    q_row_stride,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """Make one row a program, kept in registers as ``TILES`` tiles; the last is masked if ``RAGGED``."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    code_type: tl.constexpr = q_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    gate_row = x_ptr + row * x_row_stride
    up_row = gate_row + up_offset
    q_row = q_ptr + row * q_row_stride
    lane = tl.arange(0, TILE)

    # Every load is issued before the first value is used.
    halves = ()
    for i in tl.static_range(TILES):
        halves = halves + _load(gate_row, up_row, x_column_stride, i * TILE + lane, width, RAGGED and i == TILES - 1)

    products = (_product(halves[0], halves[1]),)
    top = _magnitude(products[0])
    for i in tl.static_range(1, TILES):
        products = products + (_product(halves[2 * i], halves[2 * i + 1]),)  # noqa: RUF005 - Triton has no starred tuples
        top = tl.maximum(top, _magnitude(products[i]))
    largest = tl.max(top, axis=0).to(top.dtype).to(input_type, bitcast=True).to(tl.float32)

    if largest < float("inf"):
        scale, inverse, lack = _scale_and_inverse(largest, LARGEST, code_type == tl.int8)
        tl.store(scale_ptr + row, scale)
        for i in tl.static_range(TILES):
            column = i * TILE + lane
            codes = _codes(products[i], inverse, lack, code_type)
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
    up_offset,
    x_row_stride,
    x_column_stride,
    q_row_stride,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
):
    """Make one row a program, read twice: for rows that do not fit in registers."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    code_type: tl.constexpr = q_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    gate_row = x_ptr + row * x_row_stride
    up_row = gate_row + up_offset
    q_row = q_ptr + row * q_row_stride
    lane = tl.arange(0, TILE)

    top = _magnitude(tl.zeros([TILE], input_type))
    for i in range(TILES):
        gate, up = _load(gate_row, up_row, x_column_stride, i * TILE + lane, width, True)
        top = tl.maximum(top, _magnitude(_product(gate, up)))
    largest = tl.max(top, axis=0).to(top.dtype).to(input_type, bitcast=True).to(tl.float32)

    if largest < float("inf"):
        scale, inverse, lack = _scale_and_inverse(largest, LARGEST, code_type == tl.int8)
        tl.store(scale_ptr + row, scale)
        for i in range(TILES):
            column = i * TILE + lane
            gate, up = _load(gate_row, up_row, x_column_stride, column, width, True)
            tl.store(q_row + column, _codes(_product(gate, up), inverse, lack, code_type), mask=column < width)
    else:
        tl.store(scale_ptr + row, largest)
        for i in range(TILES):
            column = i * TILE + lane
            tl.store(q_row + column, tl.zeros([TILE], tl.float32).to(code_type), mask=column < width)


def silu_mul_quantize(
    gate_up: torch.Tensor,
    dtype: torch.dtype = torch.int8,
    *,
    config: LaunchConfig | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise the rows of ``silu(gate) * up`` with a scale each, where ``gate_up`` holds both side by side.

    The product is computed in fp32 and rounded to the input's type; its codes and scales are then those of
    :func:`perf_kernels.row_quantization.quantize_rows`. A product beyond the range of fp16 is an infinity: such a row
    gives the scale inf, a row with a NaN (an infinity times 0, or a gate of minus infinity) the scale NaN, and both
    give codes 0.

    Under ``torch.compile`` this is the operator ``perf_kernels::silu_mul_quantize``.

    Args:
        gate_up: [M, 2 I] bf16, fp16 or fp32, any strides: gate in the columns before I, up in those from I on. Unit
            column stride, rows that start at multiples of 16 elements and an I that is one are fast.
        dtype: ``torch.int8`` or ``torch.float8_e4m3fn``.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
        out: tensors to write to, ``q`` [M, I] of ``dtype`` with unit column stride and ``scale`` [M] fp32, contiguous.

    Returns:
        ``q``: [M, I] ``dtype``, and ``scale``: [M] fp32. ``q * scale[:, None]`` approximates the product.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: a shape, device or ``out`` that cannot be used.
    """
    if torch.compiler.is_compiling() and config is None and out is None:
        return torch.ops.perf_kernels.silu_mul_quantize(gate_up, dtype)
    _check(gate_up, dtype)
    if gate_up.device.type != DEVICE_TYPE:
        raise ValueError(f"silu_mul_quantize: gate_up is on {gate_up.device}; {DEVICE_HINT}")
    target = current_target()
    if dtype is torch.float8_e4m3fn and not target.has_fp8:
        raise ValueError(
            f"silu_mul_quantize: torch.float8_e4m3fn needs compute capability 8.9 or more; this device has "
            f"{int(target.arch) / 10}"
        )
    q, scale = _empty(gate_up, dtype) if out is None else _checked_out(out, gate_up, dtype)
    if q.shape[0] == 0:
        return q, scale
    if q.shape[1] == 0:
        return q, scale.fill_(SMALLEST_SCALE)
    if gate_up.is_cuda and gate_up.device.index != torch.cuda.current_device():
        with torch.cuda.device(gate_up.device):
            _launch(gate_up, q, scale, config)
    else:
        _launch(gate_up, q, scale, config)
    return q, scale


@torch.library.custom_op(
    "perf_kernels::silu_mul_quantize",
    mutates_args=(),
    schema="(Tensor gate_up, ScalarType dtype) -> (Tensor, Tensor)",
)
def _operator(gate_up: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return silu_mul_quantize(gate_up, dtype)


@_operator.register_fake
def _(gate_up: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    _check(gate_up, dtype)
    return _empty(gate_up, dtype)


_INPUT_TYPES = frozenset({torch.bfloat16, torch.float16, torch.float32})


def _check(gate_up: torch.Tensor, dtype: torch.dtype) -> None:
    if gate_up.dtype not in _INPUT_TYPES:
        raise TypeError(
            f"silu_mul_quantize: gate_up is {gate_up.dtype}; it must be torch.bfloat16, torch.float16 or torch.float32"
        )
    if dtype not in LARGEST_CODE:
        raise TypeError(f"silu_mul_quantize: dtype is {dtype}; it must be torch.int8 or torch.float8_e4m3fn")
    if gate_up.ndim != 2:
        raise ValueError(f"silu_mul_quantize: gate_up has {gate_up.ndim} dimensions; it must have 2, rows and columns")
    if gate_up.shape[1] % 2:
        raise ValueError(
            f"silu_mul_quantize: gate_up has rows of {gate_up.shape[1]} elements; it must have two equal halves"
        )
    if gate_up.shape[1] > MAX_WIDTH:
        raise ValueError(
            f"silu_mul_quantize: gate_up has rows of {gate_up.shape[1]} elements; at most {MAX_WIDTH} are supported"
        )


def _empty(gate_up: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    rows, width = gate_up.shape
    q = torch.empty((rows, width // 2), dtype=dtype, device=gate_up.device)
    return q, torch.empty((rows,), dtype=torch.float32, device=gate_up.device)


def _checked_out(
    out: tuple[torch.Tensor, torch.Tensor], gate_up: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give ``out`` if it can take the result for ``gate_up``, else raise ValueError."""
    q, scale = out
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    device = gate_up.device
    if q.shape != (rows, width) or q.dtype != dtype or q.device != device or (q.numel() and q.stride(1) != 1):
        raise ValueError(
            f"silu_mul_quantize: out[0] must be {[rows, width]} {dtype} on {device} with unit column stride; "
            f"it is {list(q.shape)} {q.dtype} on {q.device} with strides {list(q.stride())}"
        )
    if scale.shape != (rows,) or scale.dtype != torch.float32 or scale.device != device or not scale.is_contiguous():
        raise ValueError(
            f"silu_mul_quantize: out[1] must be {[rows]} torch.float32 on {device}, contiguous; "
            f"it is {list(scale.shape)} {scale.dtype} on {scale.device} with strides {list(scale.stride())}"
        )
    return q, scale


def _fallback(rows: int, width: int, itemsize: int, integer: bool) -> LaunchConfig:
    return launch_config(rows, width, itemsize, current_target().lanes)


choose = Chooser("silu_mul_quantization", _fallback, shape_class)


def _launch(gate_up: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, config: LaunchConfig | None) -> None:
    rows, width = q.shape
    if config is None:
        config = choose(rows, width, gate_up.element_size(), q.dtype == torch.int8)
    tile, tiles = config.tile, config.tiles(width)
    row_stride, column_stride = gate_up.stride()
    arguments = (gate_up, q, scale, width, width * column_stride, row_stride, column_stride, q.stride(0))
    constants = (LARGEST_CODE[q.dtype], tile, tiles)
    if config.one_pass:
        _one_pass_kernel[(rows,)](*arguments, *constants, tiles * tile != width, num_warps=config.num_warps)
    else:
        _two_pass_kernel[(rows,)](*arguments, *constants, num_warps=config.num_warps)
