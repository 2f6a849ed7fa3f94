"""Which configurations of the ternary product does ``perfgate tune ternary_matmul`` try, and on which shapes?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import torch

from perf_kernels.target import DEVICE_TYPE
from perf_kernels.ternary_matmul.inputs import LAYERS, random_layer, random_tokens
from perf_kernels.ternary_matmul.launch import (
    FEWEST,
    MAX_OUTPUTS,
    MAX_SLICES,
    MAX_WARPS,
    OUTPUTS,
    LaunchConfig,
    check_token_config,
)
from perf_kernels.ternary_matmul.ops import choose, ternary_matmul
from perfgate.tune.tunable import Tunable

#: Numbers of tokens: decoding one sequence, and small batches.
_TOKENS = (1, 8, 16, 32, 64)
#: Programs for a single token on each of the multiprocessors of an H200, and its rows in powers of two.
_PROGRAMS, _MULTIPROCESSORS, _ROWS = (1, 2, 3, 4), 132, (8, 16, 32, 64)
_MOST_STAGES, _MOST_TOKENS = 4, 64

Shape = tuple[int, int, int]


def _shapes() -> Iterator[Shape]:
    """Give the layers of bitnet-b1.58-2B-4T."""
    for tokens in _TOKENS:
        for width, outputs in LAYERS.values():
            yield tokens, outputs, width


def _candidates(tokens: int, outputs: int, width: int) -> Iterator[LaunchConfig]:
    """Give for a single token shares of the outputs, else tiles of outputs and blocks."""
    default = choose.fallback(tokens, outputs, width)
    if tokens == 1:
        shares = {-(-outputs // (_MULTIPROCESSORS * programs)) for programs in _PROGRAMS}
        for step in sorted(shares.union(_ROWS)):
            for slices in (8, 16, 32):
                yield from _usable(replace(default, step=step, outputs=_rows(step), slices=slices))
        return
    for rows in (OUTPUTS, 2 * OUTPUTS, 4 * OUTPUTS):
        for slices in (2, 4, 8):
            yield replace(default, outputs=rows, step=rows, slices=slices, num_warps=slices)


def _neighbours(config: LaunchConfig, tokens: int, outputs: int, width: int) -> Iterator[LaunchConfig]:
    """Give half and twice the warps and the blocks; then other shares, or other tiles of tokens and stages."""
    near = [replace(config, num_warps=warps) for warps in (config.num_warps // 2, 2 * config.num_warps)]
    near += [replace(config, slices=slices) for slices in (config.slices // 2, 2 * config.slices)]
    if tokens == 1:
        near += [replace(config, step=step, outputs=_rows(step)) for step in (config.step - 1, config.step + 1)]
        for other in near:
            yield from _usable(other)
        return
    near += [replace(config, num_stages=config.num_stages + more) for more in (-1, 1)]
    near += [replace(config, tokens=padded) for padded in (config.tokens // 2, 2 * config.tokens)]
    for other in near:
        warps, slices = 1 <= other.num_warps <= MAX_WARPS, 1 <= other.slices <= MAX_SLICES
        if warps and slices and 1 <= other.tokens <= _MOST_TOKENS and 1 <= other.num_stages <= _MOST_STAGES:
            yield other


def _usable(config: LaunchConfig) -> Iterator[LaunchConfig]:
    """Give a launch for a single token back if it can be."""
    if 1 <= config.num_warps <= MAX_WARPS and 1 <= config.slices <= MAX_SLICES and 1 <= config.outputs <= MAX_OUTPUTS:
        with suppress(ValueError):
            check_token_config(config)
            yield config


def _rows(step: int) -> int:
    """Give the smallest power of two of rows that holds them, eight or more."""
    return max(1 << (step - 1).bit_length(), FEWEST)


def _inputs(tokens: int, outputs: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    layer = random_layer(width, outputs, DEVICE_TYPE)
    return random_tokens(tokens, width, torch.bfloat16, DEVICE_TYPE), layer.packed, layer.gamma


def _launch(config: LaunchConfig, x: torch.Tensor, packed: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    return ternary_matmul(x, packed, gamma, config=config)


def _gated(shape_class: str) -> bool:
    """Keep the feed-forward layers, the largest: others differ from them in numbers alone."""
    return str(LAYERS["up"][1]) in shape_class.split("-")


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
