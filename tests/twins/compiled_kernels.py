"""Kernels with a good and a damaged form, one a kind of damage: ``DAMAGED`` chooses. Compiled, never run."""

import torch
import triton
import triton.language as tl

DAMAGED = False


@triton.jit
def subtract_largest(x_ptr, y_ptr, TILE: tl.constexpr):
    """Keep a whole tile in registers between two uses."""
    offsets = tl.arange(0, TILE)
    x = tl.load(x_ptr + offsets)
    tl.store(y_ptr + offsets, x - tl.max(x, axis=0))


@triton.jit
def copy(x_ptr, y_ptr, stride, TILE: tl.constexpr, BARRIER: tl.constexpr):
    """Copy one tile; a stride of 1 is known to the compiler."""
    offsets = tl.arange(0, TILE)
    x = tl.load(x_ptr + offsets * stride)
    if BARRIER:
        tl.debug_barrier()
    tl.store(y_ptr + offsets, x.to(y_ptr.dtype.element_ty))


@triton.jit
def multiply(x_ptr, y_ptr, z_ptr, SIZE: tl.constexpr, WIDEN: tl.constexpr):
    """Multiply two square tiles; widened ones are multiplied without matrix units."""
    at = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    x, y = tl.load(x_ptr + at), tl.load(y_ptr + at)
    if WIDEN:
        x, y = x.to(tl.float32), y.to(tl.float32)
    tl.store(z_ptr + at, tl.dot(x, y, input_precision="ieee"))


@triton.jit
def copy_rows(x_ptr, y_ptr, stride, TILE: tl.constexpr, NARROW: tl.constexpr):
    """Copy the start of each row."""
    row = tl.program_id(0)
    if not NARROW:
        row = row.to(tl.int64)
    offsets = row * stride + tl.arange(0, TILE)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets))


def floats(*shape, dtype=torch.float32):
    """Give a tensor on a GPU."""
    return torch.empty(shape, dtype=dtype, device="cuda")


def _registers(tile, warps):
    subtract_largest[(1,)](floats(tile), floats(tile), tile, num_warps=warps)


def _vector_width():
    # A launcher that no longer makes its input contiguous loses every wide access.
    x = floats(8192)[::2] if DAMAGED else floats(4096)
    copy[(1,)](x, floats(4096), x.stride(0), 4096, False, num_warps=4)


def _tensor_cores():
    x, y, z = (floats(64, 64, dtype=torch.float16) for _ in range(3))
    multiply[(1,)](x, y, z, 64, DAMAGED, num_warps=4)


def _offsets():
    x, y = floats(65536, 65536), floats(65536, 65536)
    copy_rows[(65536,)](x, y, x.stride(0), 1024, DAMAGED, num_warps=4)


def _barriers():
    copy[(1,)](floats(4096), floats(4096), 1, 4096, DAMAGED, num_warps=4)


def _fp8():
    copy[(1,)](floats(4096), floats(4096, dtype=torch.float8_e4m3fn if DAMAGED else torch.float16), 1, 4096, False)


def _refused_fp8():
    if not DAMAGED and torch.cuda.get_device_capability() < (8, 9):
        raise ValueError("FP8 needs compute capability 8.9")
    copy[(1,)](floats(4096), floats(4096, dtype=torch.float8_e4m3fn), 1, 4096, False)


LAUNCHES = {
    "spill": lambda: _registers(16384, 1 if DAMAGED else 16),
    "occupancy": lambda: _registers(4096, 1 if DAMAGED else 8),
    "width": _vector_width,
    "tensor-cores": _tensor_cores,
    "offsets": _offsets,
    "barriers": _barriers,
}
#: For a GPU without FP8.
FP8_LAUNCHES = {"fp8": _fp8, "refused-fp8": _refused_fp8}
