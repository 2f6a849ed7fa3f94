"""Which configurations of scaling back does ``perfgate tune dequantize_bias`` try, and on which shapes?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from perf_kernels.dequantize_bias.inputs import random_products
from perf_kernels.dequantize_bias.launch import LaunchConfig
from perf_kernels.dequantize_bias.ops import choose, dequantize_bias
from perf_kernels.model_shapes import OUTPUTS
from perf_kernels.target import DEVICE_TYPE, current_target
from perf_kernels.tuned import ROWS
from perfgate.tune.tunable import Tunable

#: Results that a thread may make: fewer are too few loads in flight, more do not fit into its registers.
_RESULTS = range(4, 65)
#: Tiles down the rows in a group. At 65536 rows of 4608 columns 64 save 2.5 % on an H200, 2 to 16 nothing.
_GROUPS = (1, 32, 64, 128)
_ITEMSIZE = 2
#: Of accumulators: sums of int32, and bf16 that the column scales were applied to.
_ACC_ITEMSIZES = (4, 2)

Shape = tuple[int, int, bool, int, int]
Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]


def _shapes() -> Iterator[Shape]:
    """Give the widths of the served models' projections to bf16, row-major and as cuSPARSELt gives them."""
    for acc_itemsize in _ACC_ITEMSIZES:
        for column_major in (False, True):
            for columns in OUTPUTS:
                for rows in ROWS:
                    yield rows, columns, column_major, _ITEMSIZE, acc_itemsize


def _candidates(
    rows: int, columns: int, column_major: bool, itemsize: int, acc_itemsize: int = 4
) -> Iterator[LaunchConfig]:
    """Give tiles of 4 warps, wide or square as the accumulators lie, and large square ones of 8."""
    heights, widths = ((16, 32, 64), (32, 64, 128)) if column_major else ((2, 4, 8, 16, 32), (256, 512, 1024))
    for block_rows in heights:
        for block_columns in widths:
            if _fits(config := LaunchConfig(block_rows, block_columns, 4)):
                yield config
    if column_major and _fits(config := LaunchConfig(128, 128, 8)):
        yield config
        # Of one tile down the rows a group changes nothing.
        if config.tiles(rows, 1) > 1:
            yield replace(config, group=64)


def _neighbours(
    config: LaunchConfig, rows: int, columns: int, column_major: bool, itemsize: int, acc_itemsize: int = 4
) -> Iterator[LaunchConfig]:
    """Give half and twice of each, and of transposed accumulators the other groups."""
    for name in ("block_rows", "block_columns", "num_warps"):
        value = getattr(config, name)
        for other in (value // 2, 2 * value):
            if other >= 1 and _fits(near := replace(config, **{name: other})):
                yield near
    if column_major:
        for group in _GROUPS:
            if config.tiles(rows, 1) > group != config.group:
                yield replace(config, group=group)


def _fits(config: LaunchConfig) -> bool:
    threads = config.num_warps * current_target().lanes
    return threads <= 1024 and config.block_rows * config.block_columns // threads in _RESULTS


def _inputs(rows: int, columns: int, column_major: bool, itemsize: int, acc_itemsize: int = 4) -> Arguments:
    acc_dtype = torch.int32 if acc_itemsize == 4 else torch.bfloat16
    acc, row_scale, column_scale, bias = random_products(rows, columns, acc_dtype, DEVICE_TYPE)
    acc = acc.T.contiguous().T if column_major else acc
    return acc, row_scale, column_scale if acc_itemsize == 4 else None, bias


def _launch(
    config: LaunchConfig,
    acc: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor | None,
    bias: torch.Tensor,
) -> torch.Tensor:
    return dequantize_bias(acc, row_scale, column_scale, bias, torch.bfloat16, config=config)


def _gated(shape_class: str) -> bool:
    """Keep the narrowest and the widest of Qwen2.5-7B: blocks of others differ in numbers alone, most are the same."""
    return shape_class.split("-")[-2] in ("3584", "37888")


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
