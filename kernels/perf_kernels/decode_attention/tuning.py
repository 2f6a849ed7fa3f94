"""Which configurations of a step of attention does ``perfgate tune decode_attention`` try, and on which caches?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from perf_kernels.decode_attention.inputs import Step, random_step
from perf_kernels.decode_attention.launch import MOST_SPLITS, ROWS, LaunchConfig
from perf_kernels.decode_attention.ops import Workspace, choose, decode_attention, workspace_for
from perf_kernels.target import DEVICE_TYPE
from perfgate.tune.check import close
from perfgate.tune.tunable import Tunable

#: Of Qwen3-4B: heads of queries, of keys and values, and columns of each.
_HEADS, _KV_HEADS, _WIDTH = 32, 8, 128
_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
_MOST_TOKENS, _MOST_WARPS, _MOST_STAGES = 128, 8, 5


def _candidates(length: int, width: int) -> Iterator[LaunchConfig]:
    """Give blocks from the smallest product to a few tiles a program, of 2 to 8 warps, by 4 programs and by all."""
    for block in (ROWS, 32, 64, _MOST_TOKENS):
        for num_warps in (2, 4, _MOST_WARPS):
            for splits in (4, MOST_SPLITS):
                yield LaunchConfig(block, num_warps, 2, splits)


def _neighbours(config: LaunchConfig, length: int, width: int) -> Iterator[LaunchConfig]:
    """Give half and twice the tokens, the warps and the programs, and a step in flight more or less."""
    near = [replace(config, block=block) for block in (config.block // 2, 2 * config.block)]
    near += [replace(config, num_warps=warps) for warps in (config.num_warps // 2, 2 * config.num_warps)]
    near += [replace(config, splits=splits) for splits in (config.splits // 2, 2 * config.splits)]
    near += [replace(config, num_stages=config.num_stages + more) for more in (-1, 1)]
    for other in near:
        fits = 1 <= other.num_warps <= _MOST_WARPS and 1 <= other.num_stages <= _MOST_STAGES
        if fits and ROWS <= other.block <= _MOST_TOKENS and 1 <= other.splits <= MOST_SPLITS:
            yield other


def _inputs(length: int, width: int) -> tuple[Step, Workspace]:
    """Give the step that fills the cache: each call stores the same once more, and reads what lies before it."""
    step = random_step(1, _HEADS, _KV_HEADS, width, length, length - 1, torch.bfloat16, DEVICE_TYPE)
    return step, workspace_for(step.keys, _HEADS)


def _gated(shape_class: str) -> bool:
    """Keep few keys and the most: others differ in numbers alone."""
    return int(shape_class.split("-")[0]) in (_LENGTHS[1], _LENGTHS[-1])


TUNABLE = Tunable(
    kernel=choose.kernel,
    shapes=lambda: [(length, _WIDTH) for length in _LENGTHS],
    shape_class=choose.shape_class,
    default=choose.fallback,
    candidates=_candidates,
    neighbours=_neighbours,
    inputs=_inputs,
    launch=lambda config, step, workspace: decode_attention(*step, workspace=workspace, config=config),
    # Weights of the softmax are rounded relative to the largest score so far, which depends on the block.
    check=partial(close, relative=2.0**-6),
    gated=_gated,
)
