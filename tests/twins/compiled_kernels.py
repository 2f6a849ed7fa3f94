"""Kernels with a good and a damaged form, one a kind of damage: ``DAMAGED`` chooses. Compiled, never run."""

import torch
import triton
import triton.language as tl
from triton.runtime import driver

DAMAGED = False


@triton.jit
def subtract_largest(x_ptr, y_ptr, TILE: tl.constexpr):
    """Keep a whole tile in registers between two uses."""
    offsets = tl.arange(0, TILE)
    x = tl.load(x_ptr + offsets)
    tl.store(y_ptr + offsets, x - tl.max(x, axis=0))


@triton.jit
def copy(x_ptr, y_ptr, x_stride, y_stride, TILE: tl.constexpr, BARRIER: tl.constexpr):
    """Copy one tile; a stride of 1 is known to the compiler."""
    offsets = tl.arange(0, TILE)
    x = tl.load(x_ptr + offsets * x_stride)
    if BARRIER:
        tl.debug_barrier()
    tl.store(y_ptr + offsets * y_stride, x.to(y_ptr.dtype.element_ty))


@triton.jit
def multiply(x_ptr, y_ptr, z_ptr, SIZE: tl.constexpr, SUM: tl.constexpr):
    """Multiply two square tiles; as a sum of products it is done without matrix units."""
    at = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    x, y = tl.load(x_ptr + at), tl.load(y_ptr + at)
    z = tl.dot(x, y)
    if SUM:
        # Triton makes a matrix product of a sum of products, but not of this.
        z = tl.sum(tl.fma(x[:, :, None].to(tl.float32), y[None, :, :].to(tl.float32), 1.0), axis=1)
    tl.store(z_ptr + at, z)


@triton.jit
def transpose(x_ptr, y_ptr, SIZE: tl.constexpr):
    """Transpose a square tile, which threads trade through shared memory."""
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    tl.store(y_ptr + row * SIZE + column, tl.trans(tl.load(x_ptr + row * SIZE + column)))


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


def _subtract(values, warps, **options):
    """Give each thread so many values, if there were one warp."""
    tile = values * driver.active.get_current_target().warp_size
    subtract_largest[(1,)](floats(tile), floats(tile), tile, num_warps=warps, **options)


def _spill():
    # More warps at a time are asked for than registers allow.
    target = driver.active.get_current_target()
    most = {"maxnreg": 64} if target.backend == "cuda" else {"waves_per_eu": 512 // target.warp_size}
    _subtract(512, 4, **most if DAMAGED else {})


def _copy(x, y, barrier=False, num_warps=4):
    copy[(1,)](x, y, x.stride(0), y.stride(0), 4096, barrier, num_warps=num_warps)


def _rows(width):
    # A launcher that no longer makes its tensors contiguous loses every wide access.
    return floats(2 * width)[::2] if DAMAGED else floats(width)


def _shared_memory():
    size = 128 if DAMAGED else 64
    transpose[(1,)](floats(size, size), floats(size, size), size, num_warps=8)


def _tensor_cores():
    x, y, z = (floats(32, 32, dtype=torch.float16) for _ in range(3))
    multiply[(1,)](x, y, z, 32, DAMAGED, num_warps=4)


def _offsets():
    x, y = floats(65536, 65536), floats(65536, 65536)
    copy_rows[(65536,)](x, y, x.stride(0), 1024, DAMAGED, num_warps=4)


def _fp8():
    _copy(floats(4096), floats(4096, dtype=torch.float8_e4m3fn if DAMAGED else torch.float16))


def _refused_fp8():
    if not DAMAGED and torch.cuda.get_device_capability() < (8, 9):
        raise ValueError("FP8 needs compute capability 8.9")
    _copy(floats(4096), floats(4096, dtype=torch.float8_e4m3fn))


LAUNCHES = {
    "spill": _spill,
    "occupancy": lambda: _subtract(128, 1 if DAMAGED else 8),
    "shared-memory": _shared_memory,
    "width": lambda: _copy(_rows(4096), floats(4096)),
    "store-width": lambda: _copy(floats(4096), _rows(4096)),
    "tensor-cores": _tensor_cores,
    "offsets": _offsets,
    "barriers": lambda: _copy(floats(4096), floats(4096), barrier=DAMAGED),
}
#: For a GPU without FP8.
FP8_LAUNCHES = {"fp8": _fp8, "refused-fp8": _refused_fp8}
#: For a GPU with 64 threads in a warp: the 32 warps that fit elsewhere.
WARPS_LAUNCHES = {"warps": lambda: _copy(floats(4096), floats(4096), num_warps=32 if DAMAGED else 16)}
