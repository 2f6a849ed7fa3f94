"""How fast is causal linear attention: our chunked kernel, fla's kernels, and plain torch behind one signature?"""

from __future__ import annotations

from perf_kernels.linear_attention.implementations import (
    IMPLEMENTATIONS,
    Attended,
    default_implementation,
    linear_attention,
)
from perf_kernels.linear_attention.launch import LaunchConfig, bytes_moved, flops, launch_config
from perf_kernels.linear_attention.ops import chunk_linear_attention
from perf_kernels.linear_attention.reference import chunked_reference, recurrent_reference, relative_rms

__all__ = [
    "IMPLEMENTATIONS",
    "Attended",
    "LaunchConfig",
    "bytes_moved",
    "chunk_linear_attention",
    "chunked_reference",
    "default_implementation",
    "flops",
    "launch_config",
    "linear_attention",
    "recurrent_reference",
    "relative_rms",
]
