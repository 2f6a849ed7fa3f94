"""How is a few tokens' linear layer computed from weights of 16, 8 or 4 bits, with what stands before and behind it?"""

from __future__ import annotations

from perf_kernels.decode_linear.launch import MAX_TOKENS, LaunchConfig, bytes_moved, flops, launch_config
from perf_kernels.decode_linear.ops import decode_linear
from perf_kernels.decode_linear.reference import decode_linear_reference, full_weight, pack_int4, unpack_int4

__all__ = [
    "MAX_TOKENS",
    "LaunchConfig",
    "bytes_moved",
    "decode_linear",
    "decode_linear_reference",
    "flops",
    "full_weight",
    "launch_config",
    "pack_int4",
    "unpack_int4",
]
