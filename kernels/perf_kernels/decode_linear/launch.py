"""Into which pieces is the product of a few tokens and the weights of a layer cut?

One token: a program is one warp, which reads some rows in tiles of 128 bytes a thread. More rows mean that x is read
less often, fewer that more programs share the work: each multiprocessor of a large GPU gets about eight programs.

More tokens: a program gives 16 or 32 outputs of up to 32 tokens, tile after tile, with tiles of a loop in flight.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

#: Tokens that a launch takes: of more, a product with rebuilt weights takes less time than reading them again.
MAX_TOKENS = 64
#: Tokens of a program: as many as tensor cores handle at a time, or twice as many.
BLOCK, LARGE_BLOCK = 16, 32
#: Weights of 4 bits in a word.
WORD = 8
#: Programs of one warp that fill a large GPU (H200: 132 multiprocessors).
PROGRAMS = 1024
MAX_ROWS = 8
#: Bytes of weights that a program of one warp reads at a time, and a thread with one instruction.
TILE_BYTES = 4096
LOAD_BYTES = 16
#: Largest share of tiles that may lie beyond the end of a row: those lanes idle.
MOST_TILED = 1.25


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch cuts up the product.

    Attributes:
        rows: outputs of a program, a power of two; from 16 for more than one token.
        tile: weights of a row that are loaded at a time, or words of eight, a power of two.
        num_warps: warps of a program.
        num_stages: tiles of a loop in flight.
    """

    rows: int
    tile: int
    num_warps: int = 1
    num_stages: int = 1

    def tiles(self, stride: int) -> int:
        """Give the number of tiles that cover a row of so many weights, or words."""
        return -(-stride // self.tile)

    def whole_tiles(self, stride: int) -> int:
        """Give the number of tiles that lie within such a row."""
        return stride // self.tile

    def tail(self, stride: int, itemsize: int) -> int:
        """Give the size of the tile that takes what whole ones leave of a row, a power of two; 0 if nothing is left."""
        rest = stride % self.tile
        return min(max(power_of_two(rest), piece(itemsize)), self.tile) if rest else 0


def block_tokens(tokens: int) -> int:
    """Give the tokens of a program, of more than one."""
    return BLOCK if tokens <= BLOCK else LARGE_BLOCK


@functools.lru_cache(maxsize=4096)
def launch_config(
    tokens: int, outputs: int, stride: int, itemsize: int, packed: bool, gated: bool, cramped: bool = False
) -> LaunchConfig:
    """Choose the launch.

    Args:
        tokens: rows of x, 1 to ``MAX_TOKENS``.
        outputs: columns of y, at least 1.
        stride: weights of a row, or words of eight, at least 1.
        itemsize: bytes of a weight, or of a word.
        packed: whether weights are packed, eight to a word.
        gated: whether each output takes two rows.
        cramped: whether a thread has few registers for what it loads, as on AMD's RDNA.
    """
    if tokens > 1:
        rows = 16 if outputs < 16 * PROGRAMS else 32
        return LaunchConfig(rows, 32 if packed else 64 if cramped else 128, num_warps=4, num_stages=3)
    rows = MAX_ROWS
    while rows > 2 and outputs < rows * PROGRAMS * (1 + gated):
        rows //= 2
    # Of gates and what they are multiplied with together.
    tile_bytes = (TILE_BYTES // 4 if cramped else TILE_BYTES) // (1 + gated)
    tile = min(tile_bytes // (rows * itemsize), power_of_two(stride))
    smallest = min(32 * LOAD_BYTES // itemsize, tile)
    while tile > smallest and -(-stride // tile) * tile > MOST_TILED * stride:
        tile //= 2
    return LaunchConfig(rows, max(tile, LOAD_BYTES // itemsize))


def piece(itemsize: int) -> int:
    """Give the weights, or words, that a thread holds next to each other."""
    return LOAD_BYTES // itemsize


def shape_class(
    tokens: int, outputs: int, stride: int, itemsize: int, packed: bool, gated: bool, codes: str = ""
) -> str:
    """Name the launches that share a tuned configuration, e.g. ``1-4bit-9728-2560-gated``: one layer, and some tokens.

    ``codes``, the type that activations are rounded to, has classes of its own, because every program does it again:
    ``1-8bit-9728-2560-gated-codes-int8``. FP8 weights are met by FP8 codes, so these tell them from int8; without codes
    both share a class.
    """
    bits, width = (4, WORD * stride) if packed else (8 * itemsize, stride)
    special = ("-gated" if gated else "") + (f"-codes-{codes}" if codes else "")
    return f"{power_of_two(tokens)}-{bits}bit-{outputs}-{width}{special}"


def bytes_moved(tokens: int, outputs: int, width: int, itemsize: int, weight_bytes: int, residual: bool = False) -> int:
    """Count the bytes that a product must move.

    Args:
        tokens: rows of x.
        outputs: columns of y.
        width: columns of x.
        itemsize: bytes of an element of x, y and the residual.
        weight_bytes: those of the weights and all that belongs to them.
        residual: whether one is added.
    """
    return weight_bytes + tokens * (width + (1 + residual) * outputs) * itemsize


def flops(tokens: int, rows: int, width: int) -> int:
    """Count the multiplications and additions of a product with ``rows`` rows of weights."""
    return 2 * tokens * rows * width


def power_of_two(number: int) -> int:
    """Give the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()
