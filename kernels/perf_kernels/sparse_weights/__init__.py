"""How are a linear layer's weights made 2:L sparse and spread out so that 2:4 sparse hardware multiplies them?"""

from __future__ import annotations

from perf_kernels.sparse_weights.convert import (
    bytes_moved,
    check_sparse,
    check_two_in_four,
    compress,
    convert_weight,
    prune_weight,
    slide_weight,
)
from perf_kernels.sparse_weights.reference import slid_columns

__all__ = [
    "bytes_moved",
    "check_sparse",
    "check_two_in_four",
    "compress",
    "convert_weight",
    "prune_weight",
    "slid_columns",
    "slide_weight",
]
