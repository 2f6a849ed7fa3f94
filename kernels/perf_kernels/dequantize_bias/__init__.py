"""How are the accumulators of a quantised matrix multiplication scaled back to the activations' type?"""

from __future__ import annotations

from perf_kernels.dequantize_bias.launch import LaunchConfig, bytes_moved, launch_config
from perf_kernels.dequantize_bias.ops import dequantize_bias
from perf_kernels.dequantize_bias.reference import dequantize_bias_oracle, dequantize_bias_reference

__all__ = [
    "LaunchConfig",
    "bytes_moved",
    "dequantize_bias",
    "dequantize_bias_oracle",
    "dequantize_bias_reference",
    "launch_config",
]
