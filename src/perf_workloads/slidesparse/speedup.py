"""How much faster than dense is a sparse scheme, and is that to be believed? Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from perf_workloads.slidesparse.schemes import Scheme


@dataclass(frozen=True)
class Speedup:
    """Seconds of the dense scheme over seconds of a sparse one.

    Attributes:
        ratio: as measured.
        scheme: the sparse scheme.
    """

    ratio: float
    scheme: Scheme

    @property
    def flag(self) -> str:
        """Say why the ratio is no result, or nothing.

        A ratio above the scheme's ceiling says that one of its two figures is wrong, or that the dense product ran far
        below what the hardware can do.
        """
        if 0 < self.ratio <= self.scheme.ceiling:
            return ""
        return (
            f"{self.ratio:.2f} x dense is not plausible: the ideal of {self.scheme.name} is "
            f"{self.scheme.ideal_speedup:.2f} x, and above {self.scheme.ceiling:.2f} x a figure is wrong"
        )


def speedup(dense_s: float, sparse_s: float, scheme: Scheme) -> Speedup:
    """Compare the times of two calls that compute the same.

    Raises:
        ValueError: a time that is not positive, or a dense scheme.
    """
    if scheme.group is None:
        raise ValueError(f"{scheme.name} is what others are compared with")
    if not (dense_s > 0 and sparse_s > 0):
        raise ValueError(f"{dense_s} s and {sparse_s} s: times are positive")
    return Speedup(dense_s / sparse_s, scheme)
