"""Into which pieces is a ternary matrix product cut?

One token: a program quantises the whole row of activations and gives ``step`` outputs. Two programs or so run on each
multiprocessor, and request all that they read before the first of it is used, so that a call takes little more than its
launch and one latency of memory.

More tokens: they are quantised once, by a launch of their own (a program that quantised them all would take longer than
that launch), and a program gives ``outputs`` outputs of ``tokens`` tokens, block after block.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from perf_kernels.target import Target
from perf_kernels.ternary_matmul.reference import BLOCK_BYTES, BLOCK_COLUMNS, packed_bytes

#: Rows of the tensor cores' smallest integer product.
OUTPUTS = 16
MAX_OUTPUTS = 64
#: Outputs of a program for one token: at least, and at most by default.
FEWEST, MOST = 8, 32
#: Programs for one token, at least: some more than a large GPU has multiprocessors (H100 and H200 132, A100 108).
PROGRAMS = 200
#: Packed words that a program for one token holds in registers at a time: 64 for each of 128 threads.
WORDS = 8192
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
        outputs: rows of a program's product, a power of two from 16; from 1 for a single token.
        step: outputs of a program, at most its rows; the rest of them idle.
        slices: blocks of 256 columns handled at a time, a power of two.
        tokens: tokens of a program, a power of two.
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
    if tokens == 1:
        slices = MAX_SLICES // 4 if slices <= MAX_SLICES // 2 else MAX_SLICES
        held = min(LaunchConfig(1, 1, 1, slices, 1).tiles(width), 2) * slices * (BLOCK_BYTES // 4)
        rows = MOST
        while rows > FEWEST and (rows * held > WORDS or outputs < rows * PROGRAMS):
            rows //= 2
        return LaunchConfig(4, rows, rows, slices, 1)
    amd = target.backend == "hip"
    # The operands of RDNA's matrix cores take twice the registers, because both halves of a warp hold them.
    rdna = amd and target.lanes == 32
    slices = min(slices, 2 if rdna else 4)
    padded = min(max(_power_of_two_above(tokens), 16 if amd else 8), 16 if rdna else 32)
    rows = OUTPUTS if padded <= 16 else 2 * OUTPUTS
    return LaunchConfig(slices, rows, rows, slices, padded, num_stages=2)


def check_token_config(config: LaunchConfig) -> None:
    """Check a launch for a single token.

    Raises:
        ValueError: a thread would hold fewer than the four neighbouring words that are multiplied together.
    """
    words, threads = config.outputs * config.slices * (BLOCK_BYTES // 4), 32 * config.num_warps
    if words < 4 * threads:
        raise ValueError(
            f"ternary_matmul: {config} has {words} words of weights for {threads} threads; one token takes 4 for each"
        )


def dot_instruction(target: Target) -> str:
    """Name the instruction that multiplies four int8 by four; "" where there is none (in Triton's interpreter)."""
    if target.backend == "cuda":
        return "dp4a"
    if target.backend == "hip":
        return "dot4_iu8" if target.lanes == 32 else "dot4"
    return ""


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
