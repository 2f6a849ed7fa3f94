"""Which configurations of slide quantisation does ``perfgate tune slide_quantization`` try, and on which shapes?

There are five group sizes: ``--shapes 'int8-2_8-*'`` tunes one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from perf_kernels.model_shapes import WIDTHS
from perf_kernels.row_launch import MAX_THREADS
from perf_kernels.row_tuning import ITEMSIZE, code_kinds, code_type, to_int8, warp_counts
from perf_kernels.slide_quantization.inputs import random_rows
from perf_kernels.slide_quantization.launch import GROUPS, LaunchConfig, cut
from perf_kernels.slide_quantization.ops import choose, slide_quantize_rows
from perf_kernels.target import DEVICE_TYPE, current_target
from perf_kernels.tuned import ROWS
from perfgate.tune.tunable import Tunable

#: Bytes of a row that a thread may hold: more do not fit into its registers.
_MOST_HELD_BYTES = 256

Shape = tuple[int, int, int, int, bool]


def _shapes() -> Iterator[Shape]:
    """Give the widths of the served models in bf16 for each L, to INT8 and, where the GPU has it, to FP8."""
    for integer in code_kinds():
        for group in GROUPS:
            for width in WIDTHS:
                for rows in ROWS:
                    yield rows, width, group, ITEMSIZE, integer


def _candidates(rows: int, width: int, group: int, itemsize: int, integer: bool) -> Iterator[LaunchConfig]:
    """Give every number of warps, with the usual units."""
    for num_warps in warp_counts():
        if _fits(config := LaunchConfig(num_warps, GROUPS[group]), width, group, itemsize):
            yield config


def _neighbours(
    config: LaunchConfig, rows: int, width: int, group: int, itemsize: int, integer: bool
) -> Iterator[LaunchConfig]:
    """Give half and twice the warps, half and twice the unit, and the other way to store."""
    warps, groups = config.num_warps, config.groups
    near = [LaunchConfig(other, groups, config.trade) for other in (warps // 2, 2 * warps)]
    near += [LaunchConfig(warps, other, config.trade) for other in (groups // 2, 2 * groups)]
    near += [replace(config, trade=not config.trade)]
    for other in near:
        if other.num_warps >= 1 and other.groups in (1, 2, 4) and _fits(other, width, group, itemsize):
            yield other


def _fits(config: LaunchConfig, width: int, group: int, itemsize: int) -> bool:
    """Tell whether a row fits into the registers of a program, and no half of its threads is idle."""
    lanes = current_target().lanes
    shape = cut(config, width, group, itemsize, lanes)
    held = shape.tiles * config.groups * group * itemsize
    idle = shape.units * config.groups * group >= 2 * width
    return config.num_warps * lanes <= MAX_THREADS and held <= _MOST_HELD_BYTES and not idle


def _inputs(rows: int, width: int, group: int, itemsize: int, integer: bool) -> tuple[torch.Tensor, int, torch.dtype]:
    return random_rows(rows, width, torch.bfloat16, DEVICE_TYPE), group, code_type(integer)


def _launch(config: LaunchConfig, x: torch.Tensor, group: int, codes: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return slide_quantize_rows(x, group, codes, config=config)


def _gated(shape_class: str) -> bool:
    """Keep the widths of Qwen2.5-7B: others differ from them in numbers alone."""
    return to_int8(shape_class) and shape_class.split("-")[-2] in ("3584", "18944")


TUNABLE = Tunable(
    kernel=choose.kernel,
    shapes=_shapes,
    shape_class=choose.shape_class,
    default=choose.fallback,
    candidates=_candidates,
    neighbours=_neighbours,
    inputs=_inputs,
    launch=_launch,
    gated=_gated,
)
