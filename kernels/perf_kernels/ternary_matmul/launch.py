"""Into which pieces is a ternary matrix product cut?

One token: a program quantises the whole row of activations, which costs as many instructions as some twenty outputs,
and gives ``step`` outputs; its warps share the row's blocks. So about one program runs on each multiprocessor, with
equal shares of the weights. All that a program reads is requested before the first of it is used, so that a call takes
about one latency of memory more than its launch.

More tokens: they are quantised once, by a launch of their own (a program that quantised them all would take longer than
that launch), and a program gives ``outputs`` outputs of ``tokens`` tokens, block after block.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from perf_kernels.target import Target
from perf_kernels.ternary_matmul.reference import BLOCK_COLUMNS, packed_bytes

#: Rows of the tensor cores' smallest integer product.
OUTPUTS = 16
#: More rows would take more than 255 registers.
MAX_OUTPUTS = 64
#: Programs for one token: as many as a large GPU has multiprocessors (H100 and H200 132, A100 108, MI300X 304).
PROGRAMS = 128
#: Blocks of a row that are handled at a time: a row of 8192 in one go.
MAX_SLICES = 32
MAX_WARPS = 8
#: Columns of a row that one program quantises at a time.
MAX_TILE = 8192


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch cuts up the product.

    Attributes:
        num_warps: warps of a program; they share the slices.
        outputs: rows of a program's product, a power of two from 16.
        step: outputs of a program, at most its rows; the rest of them idle.
        slices: blocks of 256 columns handled at a time, a power of two.
        tokens: tokens of a program, a power of two. For a single token, the columns that the product is padded to:
            AMD's compiler does not use the matrix cores for a single one.
        num_stages: tiles of a loop in flight.
    """

    num_warps: int
    outputs: int
    step: int
    slices: int
    tokens: int
    num_stages: int = 1

    def tiles(self, width: int) -> int:
        """Give the number of times that ``slices`` blocks are handled for a row of this width."""
        return -(-width // (BLOCK_COLUMNS * self.slices))


@functools.lru_cache(maxsize=4096)
def launch_config(tokens: int, outputs: int, width: int, target: Target) -> LaunchConfig:
    """Choose the launch for ``x: [tokens, width]`` and ``outputs`` outputs.

    Args:
        tokens: rows of x, at least 1.
        outputs: rows of the weights, at least 1.
        width: columns of x, at least 1.
        target: the GPU.
    """
    slices = _power_of_two_above(-(-width // BLOCK_COLUMNS))
    amd = target.backend == "hip"
    # The operands of RDNA's matrix cores take twice the registers, because both halves of a warp hold them. Below sm_89
    # the compiler masks byte by byte, and needs as many more for that.
    rdna = amd and target.lanes == 32
    cramped = rdna or (target.backend == "cuda" and int(target.arch) < 89)
    if tokens == 1:
        slices = min(slices, MAX_SLICES // 4 if rdna else MAX_SLICES)
        # Packed weights in registers: 64 rows of 16 slices, 32 of 32.
        most = OUTPUTS if rdna else min(MAX_OUTPUTS, 16 * MAX_OUTPUTS // slices) // (2 if cramped else 1)
        step = min(-(-outputs // PROGRAMS), most)
        rows = max(_power_of_two_above(step), OUTPUTS)
        return LaunchConfig(min(slices, MAX_WARPS), rows, step, slices, 16 if amd else 1)
    slices = min(slices, 2 if rdna else 4)
    padded = min(max(_power_of_two_above(tokens), 16 if amd else 8), 16 if rdna else 32)
    rows = OUTPUTS if padded <= 16 else 2 * OUTPUTS
    return LaunchConfig(slices, rows, rows, slices, padded, num_stages=2)


def shape_class(tokens: int, outputs: int, width: int) -> str:
    """Name the shapes that share a tuned configuration, e.g. ``1-6912-2560``: one layer, and some tokens."""
    return f"{_power_of_two_above(tokens)}-{outputs}-{width}"


def quantize_tile(width: int) -> tuple[int, int]:
    """Give the columns that are quantised at a time, and with how many warps: 16 bytes of bf16 a thread and load."""
    tile = min(max(_power_of_two_above(width), BLOCK_COLUMNS), MAX_TILE)
    return tile, min(max(tile // 512, 1), 16)


def bytes_moved(tokens: int, outputs: int, width: int, itemsize: int, bias: bool = False) -> int:
    """Count the bytes that a product must move: packed weights, activations, outputs of the same type, bias."""
    return outputs * packed_bytes(width) + tokens * (width + outputs) * itemsize + bias * outputs * itemsize + 4


def flops(tokens: int, outputs: int, width: int) -> int:
    """Count the multiplications and additions of a product."""
    return 2 * tokens * outputs * width


def _power_of_two_above(number: int) -> int:
    """Give the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()
