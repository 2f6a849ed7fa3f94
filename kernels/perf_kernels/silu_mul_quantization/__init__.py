"""How is ``silu(gate) * up``, what an MLP's second projection reads, quantised to INT8 or FP8 as it is made?"""

from __future__ import annotations

from perf_kernels.row_launch import LaunchConfig
from perf_kernels.silu_mul_quantization.launch import bytes_moved, launch_config
from perf_kernels.silu_mul_quantization.ops import silu_mul_quantize
from perf_kernels.silu_mul_quantization.reference import product, silu_mul_quantize_reference

__all__ = [
    "LaunchConfig",
    "bytes_moved",
    "launch_config",
    "product",
    "silu_mul_quantize",
    "silu_mul_quantize_reference",
]
