"""How is the next token chosen: the likeliest, or one drawn by a generator that was given a seed?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sampling:
    """A way of choosing tokens that gives the same ones in every run.

    Args:
        temperature: 0 takes the likeliest token.
        seed: of the generator that draws; needed where one draws.

    Raises:
        ValueError: the temperature is negative, or a draw has no seed.
    """

    temperature: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature {self.temperature:g}: it must be 0 (the likeliest token) or more")
        if self.temperature > 0 and self.seed is None:
            raise ValueError("a temperature needs a seed: without one, no two runs generate the same tokens")

    def chooser(self) -> Callable[[Any], int]:
        """Give a function from logits [vocabulary] to a token, with a generator of its own."""
        import torch

        if self.temperature == 0:
            return lambda logits: int(logits.argmax())
        # On the CPU, so that every device draws the same; the global generator is not touched.
        generator = torch.Generator().manual_seed(int(self.seed or 0))

        def draw(logits: Any) -> int:
            shares = torch.softmax(logits.float().cpu() / self.temperature, dim=-1)
            return int(torch.multinomial(shares, 1, generator=generator))

        return draw
