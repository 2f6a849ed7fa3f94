"""Which configurations does ``perfgate tune silu_mul_quantization`` try, and on which shapes?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from perf_kernels.model_shapes import MODELS
from perf_kernels.silu_mul_quantization.inputs import random_gate_up
from perf_kernels.silu_mul_quantization.kernel import choose, silu_mul_quantize
from perf_kernels.silu_mul_quantization.launch import LOAD_BYTES, MAX_THREADS, LaunchConfig
from perf_kernels.target import DEVICE_TYPE, current_target
from perf_kernels.tuned import ROWS
from perfgate.tune.tunable import Tunable

#: Products that a thread may hold: more do not fit into its registers.
_MOST_HELD = 128
_ITEMSIZE = 2

Shape = tuple[int, int, int, bool]


def _shapes() -> Iterator[Shape]:
    """Give the widths of the served models' MLPs in bf16, to INT8 and, where the GPU has it, to FP8."""
    for integer in (True, False) if current_target().has_fp8 else (True,):
        for width in sorted({model.intermediate for model in MODELS}):
            for rows in ROWS:
                yield rows, width, _ITEMSIZE, integer


def _candidates(rows: int, width: int, itemsize: int, integer: bool) -> Iterator[LaunchConfig]:
    """Give every number of warps, with loads of 16 bytes a thread."""
    num_warps = 1
    while num_warps * current_target().lanes <= MAX_THREADS:
        tile = num_warps * current_target().lanes * LOAD_BYTES // itemsize
        if _fits(config := LaunchConfig(num_warps, tile), width):
            yield config
        num_warps *= 2


def _neighbours(config: LaunchConfig, rows: int, width: int, itemsize: int, integer: bool) -> Iterator[LaunchConfig]:
    """Give half and twice the tile, the warps, and both."""
    warps, tile = config.num_warps, config.tile
    near = ((warps, tile // 2), (warps, 2 * tile), (warps // 2, tile), (2 * warps, tile))
    near += ((warps // 2, tile // 2), (2 * warps, 2 * tile))
    for num_warps, columns in near:
        other = LaunchConfig(num_warps, columns)
        if num_warps >= 1 and _fits(other, width):
            yield other


def _fits(config: LaunchConfig, width: int) -> bool:
    """Tell whether the products of a row fit into the registers of a program, and no half of its threads is idle."""
    threads = config.num_warps * current_target().lanes
    held = config.tiles(width) * config.tile // threads
    return threads <= min(config.tile, MAX_THREADS) and config.tile < 2 * width and held <= _MOST_HELD


def _inputs(rows: int, width: int, itemsize: int, integer: bool) -> tuple[torch.Tensor, torch.dtype]:
    return random_gate_up(rows, width, torch.bfloat16, DEVICE_TYPE), torch.int8 if integer else torch.float8_e4m3fn


def _launch(config: LaunchConfig, gate_up: torch.Tensor, codes: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return silu_mul_quantize(gate_up, codes, config=config)


TUNABLE = Tunable(
    kernel=choose.kernel,
    shapes=_shapes,
    shape_class=choose.shape_class,
    default=choose.fallback,
    candidates=_candidates,
    neighbours=_neighbours,
    inputs=_inputs,
    launch=_launch,
)
