"""Which configurations of the decode product does ``perfgate tune decode_linear`` try, and on which shapes?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from perf_kernels.decode_linear.inputs import (
    LAYERS,
    PROMPT_LAYERS,
    Format,
    Layer,
    layer_of,
    random_tokens,
    random_weights,
)
from perf_kernels.decode_linear.launch import WORD, LaunchConfig
from perf_kernels.decode_linear.ops import choose, decode_linear
from perf_kernels.target import DEVICE_TYPE
from perfgate.tune.tunable import Tunable

#: How weights and activations are kept together: the format of weights, and the codes of activations, if any.
_KEPT: tuple[tuple[Format, str], ...] = (("dense", ""), ("int8", ""), ("int4", ""), ("int8", "int8"), ("fp8", "fp8"))
#: Bytes of a weight, or of a word of eight.
_ITEMSIZE: dict[Format, int] = {"dense": 2, "int8": 1, "fp8": 1, "int4": 4}
_CODES = {"": None, "int8": torch.int8, "fp8": torch.float8_e4m3fn}
_TOKENS = (1, 8)
#: Those of a short prompt, whose layers have nothing before and behind them.
_PROMPT_TOKENS = 32
_ROWS, _TILES, _WARPS = (1, 2, 4, 8, 16), (128, 256, 512, 1024, 2048), (1, 2)
_MOST_STAGES, _MOST_WARPS = 5, 8
#: Numbers that a program may hold in registers for each of its threads.
_MOST_HELD = 256

Shape = tuple[int, int, int, int, bool, bool, str]
Inputs = tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor | None,
    torch.Tensor | None,
    torch.Tensor | None,
    bool,
    torch.dtype | None,
]


def _shapes() -> Iterator[Shape]:
    """Give the layers of Qwen3-4B, kept in 16, 8 and 4 bits, the head in 16 only; prompts in 16 bits are torch's."""
    for tokens in _TOKENS:
        for form, codes in _KEPT:
            for name, layer in LAYERS.items():
                if form == "dense" or name != "head":
                    yield _shape(tokens, layer, form, codes)
    for form, codes in _KEPT:
        if form != "dense":
            for layer in PROMPT_LAYERS:
                yield _shape(_PROMPT_TOKENS, layer, form, codes)


def _shape(tokens: int, layer: Layer, form: Format, codes: str) -> Shape:
    packed = form == "int4"
    stride = layer.width // WORD if packed else layer.width
    return tokens, layer.outputs, stride, _ITEMSIZE[form], packed, layer.gated, codes


def _candidates(
    tokens: int, outputs: int, stride: int, itemsize: int, packed: bool, gated: bool, codes: str
) -> Iterator[LaunchConfig]:
    """Give rows and tiles that fit into registers; for several tokens, tiles of a product on tensor cores."""
    if tokens > 1:
        for rows in (16, 32, 64):
            for tile in (16, 32, 64) if packed else (64, 128, 256):
                yield LaunchConfig(rows, tile, num_warps=4, num_stages=3)
        return
    for rows in _ROWS:
        for tile in _TILES:
            for num_warps in _WARPS:
                config = LaunchConfig(rows, tile, num_warps)
                if _fits(config, stride, itemsize, packed, gated):
                    yield config


def _neighbours(
    config: LaunchConfig,
    tokens: int,
    outputs: int,
    stride: int,
    itemsize: int,
    packed: bool,
    gated: bool,
    codes: str,
) -> Iterator[LaunchConfig]:
    """Give half and twice the warps, and other numbers of stages; for one token of rows, too."""
    near = [replace(config, num_warps=warps) for warps in (config.num_warps // 2, 2 * config.num_warps)]
    near += [replace(config, num_stages=config.num_stages + more) for more in (-1, 1)]
    if tokens == 1:
        near += [replace(config, rows=rows) for rows in (config.rows // 2, 2 * config.rows)]
    for other in near:
        if not (1 <= other.num_warps <= _MOST_WARPS and 1 <= other.num_stages <= _MOST_STAGES):
            continue
        if tokens > 1 or _fits(other, stride, itemsize, packed, gated):
            yield other


def _fits(config: LaunchConfig, stride: int, itemsize: int, packed: bool, gated: bool) -> bool:
    """Tell whether one token's tile fits into registers, gives each thread a load, and does not lie beyond the row."""
    threads = 32 * config.num_warps
    held = config.rows * config.tile * (1 + gated) * (WORD if packed else 1) // threads
    return config.rows >= 1 and config.tile * itemsize >= 16 and config.tile < 2 * stride and held <= _MOST_HELD


def _inputs(tokens: int, outputs: int, stride: int, itemsize: int, packed: bool, gated: bool, codes: str) -> Inputs:
    """Give what a layer is launched with, norm and residual included: every program computes the norm again."""
    form: Format = "int4" if packed else "dense" if itemsize > 1 else "fp8" if codes == "fp8" else "int8"
    width = stride * (WORD if packed else 1)
    layer = Layer(outputs, width) if tokens == _PROMPT_TOKENS else layer_of(outputs, width, gated)
    values, scale = random_weights(layer.rows, layer.width, form, torch.bfloat16, DEVICE_TYPE)
    norm = random_tokens(1, layer.width, torch.bfloat16, DEVICE_TYPE, seed=1)[0] / 4 + 1 if layer.normed else None
    residual = random_tokens(tokens, outputs, torch.bfloat16, DEVICE_TYPE, seed=2) if layer.residual else None
    x = random_tokens(tokens, layer.width, torch.bfloat16, DEVICE_TYPE)
    return x, values, scale, norm, residual, gated, _CODES[codes]


def _launch(
    config: LaunchConfig,
    x: torch.Tensor,
    values: torch.Tensor,
    scale: torch.Tensor | None,
    norm: torch.Tensor | None,
    residual: torch.Tensor | None,
    gated: bool,
    codes: torch.dtype | None,
) -> torch.Tensor:
    return decode_linear(x, values, scale, norm=norm, residual=residual, gated=gated, codes=codes, config=config)


def _close(default: Any, other: Any) -> str:
    """Compare results: sums are taken in another order."""
    error = float((default - other).float().abs().max() / default.float().abs().max())
    return "" if error < 2.0**-6 else f"results differ by {error:.1e} of the largest"


def _gated(shape_class: str) -> bool:
    """Keep the feed-forward layers, with a norm and gates or a residual: others differ from them in numbers alone.

    Prompts have neither, so one of the two is enough.
    """
    parts, down = shape_class.split("-"), LAYERS["down"]
    another_prompt = parts[0] == str(_PROMPT_TOKENS) and parts[2] == str(down.outputs)
    return str(down.width) in parts and not another_prompt


TUNABLE = Tunable(
    kernel=choose.kernel,
    shapes=_shapes,
    shape_class=choose.shape_class,
    default=choose.fallback,
    candidates=_candidates,
    neighbours=_neighbours,
    inputs=_inputs,
    launch=_launch,
    check=_close,
    gated=_gated,
)
