"""Which inputs is row quantisation timed and checked on? Those of every kernel of rows."""

from __future__ import annotations

from perf_kernels.row_inputs import AWKWARD, FINITE, awkward_rows, random_rows

__all__ = ["AWKWARD", "FINITE", "awkward_rows", "random_rows"]
