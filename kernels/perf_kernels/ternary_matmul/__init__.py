"""How are activations multiplied by ternary weights, packed four to a byte, as BitNet b1.58 does?"""

from __future__ import annotations

from perf_kernels.ternary_matmul.launch import LaunchConfig, bytes_moved, flops, launch_config
from perf_kernels.ternary_matmul.ops import ternary_matmul
from perf_kernels.ternary_matmul.reference import (
    pack_ternary,
    packed_bytes,
    quantize_tokens,
    quantize_weight,
    ternary_matmul_reference,
    unpack_ternary,
)

__all__ = [
    "LaunchConfig",
    "bytes_moved",
    "flops",
    "launch_config",
    "pack_ternary",
    "packed_bytes",
    "quantize_tokens",
    "quantize_weight",
    "ternary_matmul",
    "ternary_matmul_reference",
    "unpack_ternary",
]
