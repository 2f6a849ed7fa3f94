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
def raise_tile(x_ptr, y_ptr, x_stride, y_stride, TILE: tl.constexpr, BARRIER: tl.constexpr):
    """Give the exponentials of one tile; a stride of 1 is known to the compiler."""
    offsets = tl.arange(0, TILE)
    x = tl.load(x_ptr + offsets * x_stride)
    if BARRIER:
        tl.debug_barrier()
    tl.store(y_ptr + offsets * y_stride, tl.exp(x).to(y_ptr.dtype.element_ty))


@triton.jit
def multiply(x_ptr, y_ptr, z_ptr, SIZE: tl.constexpr, SUM: tl.constexpr):
    """Multiply two square tiles and add up columns; as a sum of products it is done without matrix units."""
    at = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    x, y = tl.load(x_ptr + at), tl.load(y_ptr + at)
    z = tl.dot(x, y)
    if SUM:
        # Triton makes a matrix product of a sum of products, but not of this.
        z = tl.sum(tl.fma(x[:, :, None].to(tl.float32), y[None, :, :].to(tl.float32), 1.0), axis=1)
    tl.store(z_ptr + tl.arange(0, SIZE), tl.sum(z, axis=0))


@triton.jit
def transpose(x_ptr, y_ptr, SIZE: tl.constexpr):
    """Transpose a square tile, which threads trade through shared memory."""
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    tl.store(y_ptr + row * SIZE + column, tl.trans(tl.load(x_ptr + row * SIZE + column)))


@triton.jit
def raise_row(x_ptr, y_ptr, stride, TILE: tl.constexpr, NARROW: tl.constexpr):
    """Give the exponentials of the start of a row."""
    row = tl.program_id(0)
    if not NARROW:
        row = row.to(tl.int64)
    column = tl.arange(0, TILE)
    tl.store(y_ptr + row * stride + column, tl.exp(tl.load(x_ptr + row * stride + column)))


@triton.jit
def add_rows(x_ptr, y_ptr, rows, stride, TILE: tl.constexpr, NARROW: tl.constexpr):
    """Add up the exponentials of all rows; each program takes some columns of them."""
    column = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    if not NARROW:
        stride = stride.to(tl.int64)
    total = tl.zeros([TILE], tl.float32)
    for row in range(rows):
        total += tl.exp(tl.load(x_ptr + row * stride + column))
    tl.store(y_ptr + column, total)


@triton.jit
def add_packed_rows(x_ptr, y_ptr, rows, TILE: tl.constexpr, NARROW: tl.constexpr):
    """Add up the exponentials of all rows, each as wide as a tile and right behind the one before."""
    column = tl.arange(0, TILE)
    total = tl.zeros([TILE], tl.float32)
    for row in range(rows):
        if not NARROW:
            row = row.to(tl.int64)
        total += tl.exp(tl.load(x_ptr + row * TILE + column))
    tl.store(y_ptr + column, total)


@triton.jit
def add_distant_rows(x_ptr, y_ptr, rows, stride, TILE: tl.constexpr, NARROW: tl.constexpr):
    """Add up the exponentials of the start of all rows, each found from the one before."""
    offset = tl.arange(0, TILE)
    if not NARROW:
        offset = offset.to(tl.int64)
    total = tl.zeros([TILE], tl.float32)
    for _ in range(rows):
        total += tl.exp(tl.load(x_ptr + offset))
        offset += stride
    tl.store(y_ptr + tl.arange(0, TILE), total)


@triton.jit
def add_tiles(x_ptr, y_ptr, width, TILE: tl.constexpr, STEP: tl.constexpr):
    """Add up the exponentials of one row, tile by tile."""
    column = tl.arange(0, TILE)
    total = tl.zeros([TILE], tl.float32)
    ahead = column
    for tile in range(tl.cdiv(width, TILE)):
        if STEP:
            at = ahead
            ahead += TILE
        else:
            at = tile * TILE + column
        total += tl.exp(tl.load(x_ptr + at, mask=at < width, other=0.0))
    tl.store(y_ptr + column, total)


@triton.jit
def raise_rows(x_ptr, y_ptr, rows, stride, TILE: tl.constexpr, NARROW: tl.constexpr):
    """Give the exponentials of the start of each row; each program takes some rows."""
    if not NARROW:
        stride = stride.to(tl.int64)
    row = tl.program_id(0)
    column = tl.arange(0, TILE)
    while row < rows:
        tl.store(y_ptr + row * stride + column, tl.exp(tl.load(x_ptr + row * stride + column)))
        row += tl.num_programs(0)


@triton.jit
def add_staged(x_ptr, y_ptr, tiles, TILE: tl.constexpr, STAGES: tl.constexpr, ADD: tl.constexpr):
    """Add up the exponentials of tiles; of several stages, the next tiles are copied while one is added.

    Where ADD, they are added to what is there, which is loaded once, without a pipeline.
    """
    offsets = tl.arange(0, TILE)
    total = tl.load(y_ptr + offsets) if ADD else tl.zeros([TILE], tl.float32)
    for tile in tl.range(tiles, num_stages=STAGES):
        total += tl.exp(tl.load(x_ptr + tile.to(tl.int64) * TILE + offsets))
    tl.store(y_ptr + offsets, total)


def floats(*shape, dtype=torch.float32):
    """Give a tensor on a GPU."""
    return torch.empty(shape, dtype=dtype, device="cuda")


def _subtract(values, warps, **options):
    """Give each thread so many values, if there were one warp."""
    tile = values * driver.active.get_current_target().warp_size
    subtract_largest[(1,)](floats(tile), floats(tile), tile, num_warps=warps, **options)


def _spill():
    # So many warps at a time leave registers for a small tile.
    target = driver.active.get_current_target()
    most = {"maxnreg": 64} if target.backend == "cuda" else {"waves_per_eu": 512 // target.warp_size}
    _subtract(512 if DAMAGED else 64, 4, **most)


def _values():
    """Give as many as make 32 for each thread of four warps."""
    return 32 * 4 * driver.active.get_current_target().warp_size


def _raise(x, y, barrier=False, num_warps=4):
    raise_tile[(1,)](x, y, x.stride(0), y.stride(0), _values(), barrier, num_warps=num_warps)


def _rows(width):
    # A launcher that no longer makes its tensors contiguous loses every wide access.
    return floats(2 * width)[::2] if DAMAGED else floats(width)


def _shared_memory():
    size = 128 if DAMAGED else 64
    transpose[(1,)](floats(size, size), floats(size, size), size, num_warps=8)


def _tensor_cores():
    x, y, z = (floats(16, 16, dtype=torch.float16) for _ in range(3))
    multiply[(1,)](x, y, z, 16, DAMAGED, num_warps=4)


def _loop():
    x = floats(65536, 65536)
    add_rows[(16,)](x, floats(65536), 65536, x.stride(0), 4096, DAMAGED, num_warps=4)


def _packed_rows():
    add_packed_rows[(1,)](floats(1048576, 4096), floats(4096), 1048576, 4096, DAMAGED, num_warps=4)


def _carried():
    x = floats(65536, 65536)
    add_distant_rows[(1,)](x, floats(4096), 65536, x.stride(0), 4096, DAMAGED, num_warps=4)


def _staged(stages, add=False):
    add_staged[(1,)](floats(64, 1024), floats(1024), 64, 1024, stages, add, num_warps=4)


def _tiles(step):
    add_tiles[(1,)](floats(1048576), floats(4096), 1048576, 4096, step, num_warps=4)


def _while():
    x, y = floats(65536, 65536), floats(65536, 65536)
    raise_rows[(132,)](x, y, 65536, x.stride(0), 4096, DAMAGED, num_warps=4)


def _offsets():
    x, y = floats(65536, 65536), floats(65536, 65536)
    raise_row[(65536,)](x, y, x.stride(0), 4096, DAMAGED, num_warps=2)


def _fp8():
    _raise(floats(_values()), floats(_values(), dtype=torch.float8_e4m3fn if DAMAGED else torch.float16))


def _refused_fp8():
    if not DAMAGED and torch.cuda.get_device_capability() < (8, 9):
        raise ValueError("FP8 needs compute capability 8.9")
    _raise(floats(_values()), floats(_values(), dtype=torch.float8_e4m3fn))


LAUNCHES = {
    "spill": _spill,
    "occupancy": lambda: _subtract(512 if DAMAGED else 64, 4),
    "shared-memory": _shared_memory,
    "width": lambda: _raise(_rows(_values()), floats(_values())),
    "store-width": lambda: _raise(floats(_values()), _rows(_values())),
    "tensor-cores": _tensor_cores,
    "offsets": _offsets,
    "loop": _loop,
    "while": _while,
    "packed-rows": _packed_rows,
    "carried": _carried,
    "barriers": lambda: _raise(floats(_values()), floats(_values()), barrier=DAMAGED),
}
#: For a GPU whose software pipelines copy to shared memory.
PIPELINE_LAUNCHES = {
    "pipeline": lambda: _staged(1 if DAMAGED else 3),
    "shorter-pipeline": lambda: _staged(2 if DAMAGED else 4, add=True),
}
#: Walks along a row, whose offsets stay below its width.
SOUND_LAUNCHES = {"counted-tiles": lambda: _tiles(False), "carried-tiles": lambda: _tiles(True)}
#: For a GPU without FP8.
FP8_LAUNCHES = {"fp8": _fp8, "refused-fp8": _refused_fp8}
#: For a GPU with 64 threads in a warp: the 32 warps that fit elsewhere.
WARPS_LAUNCHES = {"warps": lambda: _raise(floats(_values()), floats(_values()), num_warps=32 if DAMAGED else 16)}
