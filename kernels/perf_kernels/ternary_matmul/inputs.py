"""Which inputs are ternary products timed and checked on?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perf_kernels.ternary_matmul.reference import pack_valid_codes, quantize_weight

#: The two shapes of the MLP of bitnet-b1.58-2B-4T, and its attention's: (inputs, outputs).
LAYERS = {"up": (2560, 6912), "down": (6912, 2560), "query": (2560, 2560), "key": (2560, 640)}


@dataclass(frozen=True)
class Layer:
    """A linear layer before and after quantisation.

    Attributes:
        weight: [N, K] bf16, ~ N(0, 0.02).
        codes: [N, K] int8 in {-1, 0, 1}.
        packed: [N, ceil(K / 256) * 64] uint8.
        gamma: fp32 without dimensions.
    """

    weight: torch.Tensor
    codes: torch.Tensor
    packed: torch.Tensor
    gamma: torch.Tensor


def random_layer(inputs: int, outputs: int, device: torch.device | str = "cpu", seed: int = 0) -> Layer:
    """Draw a layer: the same for the same seed, device and software."""
    generator = torch.Generator(device=device).manual_seed(seed)
    weight = torch.randn((outputs, inputs), dtype=torch.bfloat16, device=device, generator=generator) * 0.02
    codes, gamma = quantize_weight(weight)
    return Layer(weight, codes, pack_valid_codes(codes), gamma)


def random_tokens(
    tokens: int,
    width: int,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> torch.Tensor:
    """Draw activations ~ N(0, 1), ``[tokens, width]``."""
    generator = torch.Generator(device=device).manual_seed(seed)
    return torch.randn((tokens, width), dtype=dtype, device=device, generator=generator)
