"""How are the rows of a matrix quantised to INT8 or FP8, one scale a row?"""

from __future__ import annotations

from perf_kernels.row_launch import LaunchConfig
from perf_kernels.row_quantization.launch import bytes_moved, launch_config
from perf_kernels.row_quantization.ops import quantize_rows
from perf_kernels.row_quantization.reference import dequantize, quantize_rows_reference

__all__ = [
    "LaunchConfig",
    "bytes_moved",
    "dequantize",
    "launch_config",
    "quantize_rows",
    "quantize_rows_reference",
]
