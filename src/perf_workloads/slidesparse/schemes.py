"""How can the weights of a linear layer be kept, and how much faster can each way be at most?

A scheme is a type of codes (INT8 or FP8 e4m3, one scale a row of weights and one a token) and a sparsity: dense, or at
least 2 zeros in each group of L weights, slid onto 2:4 sparse hardware. Sparse INT8 has two forms, which share codes
and differ in what their product writes. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Codes = Literal["int8", "fp8"]
Epilogue = Literal["int32", "bf16"]

#: L of the sparse schemes.
GROUPS = (4, 6, 8, 10)
#: A speed-up may exceed the ratio of the multiplications by this factor: 2.2 for 2:4. What exceeds that is a fault of
#: one of the two figures, and no result.
PLAUSIBLE = 1.1
#: The form of sparse INT8 that campaigns serve and reports show where nobody names schemes.
DEFAULT_EPILOGUE: Epilogue = "bf16"


@dataclass(frozen=True)
class Scheme:
    """One way to keep the weights of a linear layer.

    Attributes:
        codes: type of weights and activations.
        group: L, at least 2 zeros in each L weights; None for dense weights.
        epilogue: what the product of sparse INT8 weights writes. "int32": the sums, 4 bytes each; a kernel then
            applies both scales and the bias, and rounds once. "bf16": the sums times the weights' scales, 2 bytes each;
            a kernel then applies the tokens' scales and the bias, so that results are rounded twice. All other schemes
            have no choice, and "int32" here.
    """

    codes: Codes
    group: int | None = None
    epilogue: Epilogue = "int32"

    def __post_init__(self) -> None:
        """Refuse a form that no product has."""
        if self.epilogue != "int32" and (self.codes != "int8" or self.group is None):
            raise ValueError(f"{self.exact.name} has no form that writes {self.epilogue}: only sparse INT8 has")

    @property
    def name(self) -> str:
        """Name it as cases and files do, e.g. ``int8-dense``, ``fp8-2_8`` or ``int8-2_8-bf16``."""
        kept = f"{self.codes}-{'dense' if self.group is None else f'2_{self.group}'}"
        return kept if self.epilogue == "int32" else f"{kept}-{self.epilogue}"

    @property
    def exact(self) -> Scheme:
        """Give the form of the same codes whose sums are not rounded."""
        return Scheme(self.codes, self.group)

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


#: All ways to keep weights by name: dense, 2:4, 2:6, 2:8 and 2:10, in INT8 and in FP8.
SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        scheme.name: scheme
        for codes in ("int8", "fp8")
        for scheme in (Scheme(codes), *(Scheme(codes, group) for group in GROUPS))
    }
)

#: The other form of the sparse INT8 schemes, by name: their products write bf16.
TO_BF16: Mapping[str, Scheme] = MappingProxyType(
    {scheme.name: scheme for scheme in (Scheme("int8", group, "bf16") for group in GROUPS)}
)


def find(name: str) -> Scheme:
    """Give a scheme by its name, in either form.

    Raises:
        ValueError: there is none of that name.
    """
    known = {**SCHEMES, **TO_BF16}
    if name not in known:
        raise ValueError(f"unknown scheme {name!r}: the known ones are {', '.join(known)}")
    return known[name]
