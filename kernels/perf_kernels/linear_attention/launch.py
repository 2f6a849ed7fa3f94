"""Into which chunks, value blocks and segments is linear attention cut, and with how many warps does each run?

A program walks over the chunks of one head with a state [K, value_block] in its registers. One walk over the whole
sequence moves the least memory. Where batch x heads x value blocks are too few programs to fill the GPU, the sequence
is cut into segments: a first pass sums up the keys and values of every segment but the last, which costs a second
reading of both, and all segments are then walked at the same time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from perf_kernels.target import Target

#: A program of so many threads shares the registers of a unit with a second one; a larger one has them alone.
SHARING_THREADS = 128
#: Fewer chunks a segment would make the first pass as long as the second.
SMALLEST_SEGMENT = 8
MAX_SEGMENTS = 32
#: Share of the units that must be busy for one walk over the whole sequence to be worth it.
FILLED = 0.9
MAX_STAGES = 3
#: Tensor cores multiply tiles of at least this size.
SMALLEST_TILE = 16
#: Shared memory that the system takes from every program.
_RESERVED_BYTES = 1024


@dataclass(frozen=True)
class _Device:
    """What a program may use. Found by compiling for each: more spills, or does not fit.

    Attributes:
        units: streaming multiprocessors or compute units.
        shared_bytes: shared memory of one program.
        num_warps: warps of a program.
        chunk: largest chunk.
        value_block: largest block of values; a state has at most ``128 * value_block`` elements.
        spare_buffers: buffers for loads beyond one for each chunk loaded ahead.
        stages: chunks that may be loaded ahead, plus one.
    """

    units: int
    shared_bytes: int
    num_warps: int
    chunk: int = 64
    value_block: int = 64
    spare_buffers: int = 0
    stages: int = MAX_STAGES


_DEVICES: dict[int | str, _Device] = {
    80: _Device(108, 166_912, 8),
    89: _Device(128, 101_376, 8, value_block=32),
    90: _Device(132, 232_448, 4, spare_buffers=1),
    100: _Device(148, 232_448, 8, spare_buffers=1),
    "gfx90a": _Device(104, 65_536, 4, chunk=32, stages=2),
    "gfx942": _Device(304, 65_536, 4, chunk=32, stages=2),
    "gfx1100": _Device(96, 65_536, 8, chunk=16, value_block=16, stages=1),
}
_OTHERS = {"cuda": _DEVICES[89], "hip": _DEVICES["gfx1100"], "interpreter": _DEVICES[90]}


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch is cut up.

    Attributes:
        chunk: tokens handled at a time, a power of two from 16.
        value_block: columns of the values that one program handles, a power of two from 16.
        segments: parts of the sequence that are walked at the same time, 1 to 32.
        num_warps: warps of a program.
        num_stages: chunks that are loaded ahead, plus one.
    """

    chunk: int = 64
    value_block: int = 64
    segments: int = 1
    num_warps: int = 4
    num_stages: int = 2

    def chunks(self, tokens: int) -> int:
        """Give the number of chunks that cover a sequence."""
        return -(-tokens // self.chunk)

    def segment_chunks(self, tokens: int) -> int:
        """Give the chunks of a segment; the last segment may have fewer."""
        return max(-(-self.chunks(tokens) // self.segments), 1)

    def used_segments(self, tokens: int) -> int:
        """Give the number of segments that are not empty."""
        return max(-(-self.chunks(tokens) // self.segment_chunks(tokens)), 1)


@functools.lru_cache(maxsize=4096)
def launch_config(
    batch: int, tokens: int, heads: int, keys: int, values: int, itemsize: int, normalize: bool, target: Target
) -> LaunchConfig:
    """Choose the launch for ``q, k: [batch, tokens, heads, keys]`` and ``v: [batch, tokens, heads, values]``.

    Args:
        batch: sequences, at least 1.
        tokens: tokens of a sequence, at least 1.
        heads: heads, at least 1.
        keys: width of a key, 1 to 256.
        values: width of a value, at least 1.
        itemsize: bytes of an input element.
        normalize: whether outputs are normalised, which takes more registers.
        target: the GPU.
    """
    device = _DEVICES.get(target.arch, _OTHERS[target.backend])
    block_k = max(power_of_two(keys), SMALLEST_TILE)
    chunk = min(max(power_of_two(tokens), SMALLEST_TILE), device.chunk)
    value_block = min(device.value_block, 128 * device.value_block // block_k)
    num_warps = device.num_warps
    if normalize or itemsize > 2 or block_k > 128:
        value_block //= 2
    value_block = min(max(power_of_two(values), SMALLEST_TILE), max(value_block, SMALLEST_TILE))

    programs = batch * heads * -(-values // value_block)
    segments, shared = 1, device.shared_bytes
    if programs < FILLED * device.units:
        sharing = num_warps * target.lanes <= SHARING_THREADS
        most = min(-(-tokens // chunk) // SMALLEST_SEGMENT, MAX_SEGMENTS)
        segments = max(min((2 if sharing else 1) * device.units // programs, most), 1)
        if sharing:
            shared = shared // 2 - _RESERVED_BYTES

    def fits(num_stages: int) -> bool:
        buffers = max(num_stages - 1, 1) + device.spare_buffers
        return shared_bytes(chunk, value_block, keys, itemsize, buffers) <= shared

    while not fits(1) and chunk > SMALLEST_TILE:
        chunk //= 2
    num_stages = next((stages for stages in range(device.stages, 1, -1) if fits(stages)), 1)
    return LaunchConfig(chunk, value_block, segments, num_warps, num_stages)


def check_warps(config: LaunchConfig, keys: int, target: Target) -> None:
    """Refuse more warps than a Hopper GPU's products have rows for.

    Each warp takes 16 rows. Where chained products give the warps all rows (``warpsPerCTA = [8, 1]`` in the compiled
    code), those without any read past the chunk: seen in Triton 3.6.0 as memory errors and wrong sums.

    Raises:
        ValueError: the launch has more than four warps and fewer than 128 rows.
    """
    rows = min(config.chunk, power_of_two(keys))
    if target.backend == "cuda" and target.arch == 90 and config.num_warps > max(4, rows // 16):
        raise ValueError(
            f"chunk_linear_attention: {config.num_warps} warps for products of {rows} rows; on sm90 at most "
            f"{max(4, rows // 16)} are safe"
        )


def shape_class(batch: int, tokens: int, heads: int, keys: int, values: int, itemsize: int, normalize: bool) -> str:
    """Name the shapes that share a tuned configuration, e.g. ``16bit-128x128-64x4096``: heads of a batch x tokens.

    Both are rounded up to powers of two; the widths are their own.
    """
    form = "-normalized" if normalize else ""
    return f"{8 * itemsize}bit-{keys}x{values}{form}-{power_of_two(batch * heads)}x{power_of_two(tokens)}"


def shared_bytes(chunk: int, value_block: int, keys: int, itemsize: int, buffers: int) -> int:
    """Estimate the shared memory of a program: loaded chunks, and the state and the scores as factors of a product."""
    width = max(power_of_two(keys), SMALLEST_TILE)
    loaded = chunk * (2 * width + value_block)
    return (buffers * loaded + width * value_block + chunk * chunk) * itemsize


def power_of_two(number: int) -> int:
    """Give the smallest power of two that is at least ``number``."""
    return 1 << max(number - 1, 0).bit_length()


def bytes_moved(batch: int, tokens: int, heads: int, keys: int, values: int, itemsize: int) -> int:
    """Count the bytes that must be moved: queries, keys and values are read, outputs are written, each once."""
    return 2 * batch * tokens * heads * (keys + values) * itemsize


def flops(batch: int, tokens: int, heads: int, keys: int, values: int) -> int:
    """Count the operations of the recurrence: a state [K, V] is updated and read once a token, 2 K V each."""
    return 4 * batch * tokens * heads * keys * values
