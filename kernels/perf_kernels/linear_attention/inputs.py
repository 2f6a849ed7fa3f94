"""Which inputs is linear attention timed and checked on?"""

from __future__ import annotations

import torch
from torch.nn.functional import elu

Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def random_heads(
    batch: int,
    tokens: int,
    heads: int,
    keys: int,
    values: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
    *,
    positive: bool = False,
) -> Heads:
    """Draw q, k ~ N(0, 1) [batch, tokens, heads, keys] and v likewise: the same for the same seed and device.

    Args:
        batch: sequences.
        tokens: tokens of a sequence.
        heads: heads.
        keys: width of queries and keys.
        values: width of values; as the keys by default.
        dtype: type of all three.
        device: where they are drawn.
        seed: of the generator.
        positive: give ``elu(x) + 1`` for q and k, as the normalised form is used: with signs its divisor passes 0.
    """
    generator = torch.Generator(device=device).manual_seed(seed)

    def draw(width: int) -> torch.Tensor:
        return torch.randn((batch, tokens, heads, width), dtype=dtype, device=device, generator=generator)

    q, k = draw(keys), draw(keys)
    if positive:
        q, k = elu(q) + 1, elu(k) + 1
    return q, k, draw(keys if values is None else values)


def random_state(
    batch: int,
    heads: int,
    keys: int,
    values: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
    *,
    normalize: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Draw a state [batch, heads, keys, values] fp32, for ``normalize`` with a positive sum of keys [batch, 1, ...]."""
    generator = torch.Generator(device=device).manual_seed(seed)
    state = torch.randn((batch, heads, keys, values), device=device, generator=generator)
    if not normalize:
        return state
    return state, torch.rand((batch, 1, heads, keys), device=device, generator=generator) + 0.5
