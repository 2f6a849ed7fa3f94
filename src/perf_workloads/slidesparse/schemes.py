"""How can the weights of a linear layer be kept, and how much faster can each way be at most?

A scheme is a type of codes (INT8 or FP8 e4m3, one scale a row of weights and one a token) and a sparsity: dense, or at
least 2 zeros in each group of L weights, slid onto 2:4 sparse hardware. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Codes = Literal["int8", "fp8"]

#: L of the sparse schemes.
GROUPS = (4, 6, 8, 10)
#: A speed-up may exceed the ratio of the multiplications by this factor: 2.2 for 2:4. What exceeds that is a fault of
#: one of the two figures, and no result.
PLAUSIBLE = 1.1


@dataclass(frozen=True)
class Scheme:
    """One way to keep the weights of a linear layer.

    Attributes:
        codes: type of weights and activations.
        group: L, at least 2 zeros in each L weights; None for dense weights.
    """

    codes: Codes
    group: int | None = None

    @property
    def name(self) -> str:
        """Name it as cases and files do, e.g. ``int8-dense`` or ``fp8-2_8``."""
        return f"{self.codes}-{'dense' if self.group is None else f'2_{self.group}'}"

    @property
    def dense(self) -> Scheme:
        """Give the dense scheme with the same codes."""
        return Scheme(self.codes)

    @property
    def ideal_speedup(self) -> float:
        """Give L / (L - 2): sparse hardware is twice as fast, and sliding makes rows 2 - 4 / L times as long."""
        return 1.0 if self.group is None else self.group / (self.group - 2)

    @property
    def ceiling(self) -> float:
        """Give the largest speed-up over the dense scheme that is believed."""
        return PLAUSIBLE * self.ideal_speedup


#: All schemes by name: dense, 2:4, 2:6, 2:8 and 2:10, in INT8 and in FP8.
SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        scheme.name: scheme
        for codes in ("int8", "fp8")
        for scheme in (Scheme(codes), *(Scheme(codes, group) for group in GROUPS))
    }
)


def find(name: str) -> Scheme:
    """Give a scheme by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in SCHEMES:
        raise ValueError(f"unknown scheme {name!r}: the known ones are {', '.join(SCHEMES)}")
    return SCHEMES[name]
