"""Which configurations of linear attention does ``perfgate tune linear_attention`` try, and on which shapes?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from perf_kernels.linear_attention.attend import attend_chunks, choose
from perf_kernels.linear_attention.inputs import random_heads
from perf_kernels.linear_attention.launch import MAX_SEGMENTS, LaunchConfig
from perf_kernels.target import DEVICE_TYPE
from perfgate.tune.check import close
from perfgate.tune.tunable import Tunable

_ITEMSIZE = 2

Shape = tuple[int, int, int, int, int, int, bool]


def _shapes() -> Iterator[Shape]:
    """Give batch, tokens, heads and widths of the timed cases, each with and without normalisation."""
    for batch, tokens, heads, width in ((8, 4096, 8, 128), (1, 32768, 8, 128), (2, 8192, 16, 64), (32, 512, 16, 64)):
        for normalize in (False, True):
            yield batch, tokens, heads, width, width, _ITEMSIZE, normalize


def _candidates(*shape: Any) -> Iterator[LaunchConfig]:
    """Give one to 32 segments and blocks of 32 to 128 values: by one warp group, or by two with chunks of 128."""
    _, tokens, _, keys, values, *_ = shape
    for segments in (1, 2, 4, 8, 16, 32):
        for value_block in (32, 64, 128):
            for chunk, num_warps in ((64, 4), (128, 8)):
                for num_stages in (2, 3):
                    config = LaunchConfig(chunk, value_block, segments, num_warps, num_stages)
                    if value_block <= values and chunk <= max(keys, 64) and _sensible(config, tokens):
                        yield config


def _neighbours(config: LaunchConfig, *shape: Any) -> Iterator[LaunchConfig]:
    """Give half and twice the chunk, half again and three quarters of the segments, and one stage less or more."""
    tokens = shape[1]
    for change in (
        {"chunk": config.chunk // 2},
        {"chunk": config.chunk * 2},
        {"segments": config.segments * 3 // 2},
        {"segments": max(config.segments * 3 // 4, 1)},
        {"num_stages": config.num_stages - 1},
        {"num_stages": config.num_stages + 1},
    ):
        other = dataclasses.replace(config, **change)
        if 16 <= other.chunk <= 128 and 1 <= other.num_stages <= 4 and _sensible(other, tokens):
            yield other


def _sensible(config: LaunchConfig, tokens: int) -> bool:
    """Tell whether there are as many segments as asked for, of at least four chunks."""
    return config.segments <= MAX_SEGMENTS and (
        config.segments == 1 or config.chunks(tokens) >= 4 * config.segments == 4 * config.used_segments(tokens)
    )


def _inputs(*shape: Any) -> tuple[Any, ...]:
    batch, tokens, heads, keys, values, _, normalize = shape
    heads_of = random_heads(batch, tokens, heads, keys, values, device=DEVICE_TYPE, positive=normalize)
    return *heads_of, keys**-0.5, normalize


def _launch(
    config: LaunchConfig, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, normalize: bool
) -> torch.Tensor:
    return attend_chunks(q, k, v, scale, normalize=normalize, config=config).output


TUNABLE = Tunable(
    kernel=choose.kernel,
    shapes=_shapes,
    shape_class=choose.shape_class,
    default=choose.fallback,
    candidates=_candidates,
    neighbours=_neighbours,
    inputs=_inputs,
    launch=_launch,
    # Segments and chunks add in another order, and round states and scores elsewhere.
    check=partial(close, relative=0.02),
)
