"""Which configurations of a kernel of rows does ``perfgate tune`` try, and on which shapes?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from perf_kernels.row_launch import LOAD_BYTES, MAX_THREADS, LaunchConfig
from perf_kernels.target import DEVICE_TYPE, current_target
from perf_kernels.tuned import ROWS, Chooser
from perfgate.tune.tunable import Tunable

#: Values that a thread may hold: more do not fit into its registers.
_MOST_HELD = 128
#: Bytes of a bf16.
ITEMSIZE = 2

Shape = tuple[int, int, int, bool]


def row_tunable(
    choose: Chooser[LaunchConfig],
    quantize: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    draw: Callable[[int, int, torch.dtype, str], torch.Tensor],
    widths: Iterable[int],
) -> Tunable:
    """Declare a kernel that is launched as :mod:`perf_kernels.row_launch` says.

    Args:
        choose: what its launcher asks.
        quantize: the launcher; takes values, the type of codes, and ``config``.
        draw: gives values for rows, width of the result, type and device.
        widths: of the results that it is tuned for, in bf16, to INT8 and, where the GPU has it, to FP8.
    """

    def shapes() -> Iterator[Shape]:
        for integer in code_kinds():
            for width in widths:
                for rows in ROWS:
                    yield rows, width, ITEMSIZE, integer

    def inputs(rows: int, width: int, itemsize: int, integer: bool) -> tuple[torch.Tensor, torch.dtype]:
        return draw(rows, width, torch.bfloat16, DEVICE_TYPE), code_type(integer)

    def launch(config: LaunchConfig, x: torch.Tensor, codes: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        return quantize(x, codes, config=config)

    return Tunable(
        kernel=choose.kernel,
        shapes=shapes,
        shape_class=choose.shape_class,
        default=choose.fallback,
        candidates=_candidates,
        neighbours=_neighbours,
        inputs=inputs,
        launch=launch,
        gated=to_int8,
    )


def code_kinds() -> tuple[bool, ...]:
    """Give whether codes are INT8, for each type of codes that this GPU has."""
    return (True, False) if current_target().has_fp8 else (True,)


def to_int8(shape_class: str) -> bool:
    """Leave out FP8: it differs in the last conversion, which a declared launch has."""
    return shape_class.startswith("int8-")


def code_type(integer: bool) -> torch.dtype:
    """Give the type of INT8 codes, or of FP8 ones."""
    return torch.int8 if integer else torch.float8_e4m3fn


def warp_counts() -> Iterator[int]:
    """Give every number of warps that a program can have on this GPU: powers of two."""
    num_warps = 1
    while num_warps * current_target().lanes <= MAX_THREADS:
        yield num_warps
        num_warps *= 2


def _candidates(rows: int, width: int, itemsize: int, integer: bool) -> Iterator[LaunchConfig]:
    """Give every number of warps, with loads of 16 bytes a thread."""
    for num_warps in warp_counts():
        config = LaunchConfig(num_warps, num_warps * current_target().lanes * LOAD_BYTES // itemsize)
        if _fits(config, width):
            yield config


def _neighbours(config: LaunchConfig, rows: int, width: int, itemsize: int, integer: bool) -> Iterator[LaunchConfig]:
    """Give half and twice the tile, the warps, and both."""
    warps, tile = config.num_warps, config.tile
    near = ((warps, tile // 2), (warps, 2 * tile), (warps // 2, tile), (2 * warps, tile))
    near += ((warps // 2, tile // 2), (2 * warps, 2 * tile))
    for num_warps, columns in near:
        other = LaunchConfig(num_warps, columns)
        if 1 <= num_warps <= MAX_THREADS // current_target().lanes and _fits(other, width):
            yield other


def _fits(config: LaunchConfig, width: int) -> bool:
    """Tell whether a row fits into the registers of a program, and no half of its threads is idle."""
    threads = config.num_warps * current_target().lanes
    held = config.tiles(width) * config.tile // threads
    return threads <= config.tile < 2 * width and held <= _MOST_HELD
