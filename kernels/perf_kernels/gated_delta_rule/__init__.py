"""How fast is the gated delta rule: fla's kernels and plain torch behind one signature?"""

from __future__ import annotations

from perf_kernels.gated_delta_rule.implementations import IMPLEMENTATIONS, Attended, gated_delta_rule
from perf_kernels.gated_delta_rule.reference import chunked_reference, recurrent_reference
from perf_kernels.gated_delta_rule.work import bytes_moved, flops

__all__ = [
    "IMPLEMENTATIONS",
    "Attended",
    "bytes_moved",
    "chunked_reference",
    "flops",
    "gated_delta_rule",
    "recurrent_reference",
]
