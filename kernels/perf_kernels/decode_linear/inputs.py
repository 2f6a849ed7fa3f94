"""Which inputs are decode products timed and checked on?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from perf_kernels.decode_linear.reference import LARGEST_CODE, pack_int4

Format = Literal["dense", "int8", "fp8", "int4"]
FORMATS: tuple[Format, ...] = ("dense", "int8", "fp8", "int4")
GROUP = 128


@dataclass(frozen=True)
class Layer:
    """One launch of a decoder.

    Attributes:
        outputs: numbers that it gives for a token.
        width: numbers that it takes.
        gated: whether rows of weights are gates, and as many those that they are multiplied with.
        normed: whether an RMS norm stands before the product.
        residual: whether something is added to it.
    """

    outputs: int
    width: int
    gated: bool = False
    normed: bool = False
    residual: bool = False

    @property
    def rows(self) -> int:
        """Rows of weights."""
        return self.outputs * (2 if self.gated else 1)


#: Qwen3-4B: query, key and value in one; attention's output; gate and up in one; down; the head.
LAYERS = {
    "qkv": Layer(6144, 2560, normed=True),
    "out": Layer(2560, 4096, residual=True),
    "gate_up": Layer(9728, 2560, gated=True, normed=True),
    "down": Layer(2560, 9728, residual=True),
    "head": Layer(151936, 2560, normed=True),
}


#: Layers through which a short prompt goes one by one: query, key or value, attention's output, gate or up, and down.
PROMPT_LAYERS = (Layer(4096, 2560), Layer(1024, 2560), Layer(2560, 4096), Layer(9728, 2560), Layer(2560, 9728))


def layer_of(outputs: int, width: int, gated: bool) -> Layer:
    """Give the layer of this shape, with what stands before and behind it; one with nothing where there is none."""
    shape = (outputs, width, gated)
    known = (layer for layer in LAYERS.values() if (layer.outputs, layer.width, layer.gated) == shape)
    return next(known, Layer(*shape))


def random_tokens(
    tokens: int, width: int, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu", seed: int = 0
) -> torch.Tensor:
    """Draw activations ~ N(0, 1), ``[tokens, width]``: the same for the same seed, device and software."""
    generator = torch.Generator(device=device).manual_seed(seed)
    return torch.randn((tokens, width), dtype=dtype, device=device, generator=generator)


def random_weights(
    rows: int,
    width: int,
    form: Format,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
    group: int = GROUP,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Draw weights as they are stored, of about the size 0.02: values and scale. Codes are used to their limits."""
    generator = torch.Generator(device=device).manual_seed(seed)
    if form == "dense":
        return torch.randn((rows, width), dtype=dtype, device=device, generator=generator) * 0.02, None
    shape = (rows, width // group) if form == "int4" else (rows,)
    scale = (torch.rand(shape, device=device, generator=generator) + 0.5) * 0.01
    if form == "int4":
        codes = torch.randint(16, (rows, width), dtype=torch.uint8, device=device, generator=generator)
        zero = torch.randint(17, shape, dtype=torch.uint8, device=device, generator=generator)
        return pack_int4(codes, scale.half(), zero)
    if form == "int8":
        return torch.randint(-127, 128, (rows, width), dtype=torch.int8, device=device, generator=generator), scale / 16
    numbers = torch.randn((rows, width), device=device, generator=generator) * 100
    largest = LARGEST_CODE[torch.float8_e4m3fn]
    return numbers.clamp(-largest, largest).to(torch.float8_e4m3fn), scale / 32
