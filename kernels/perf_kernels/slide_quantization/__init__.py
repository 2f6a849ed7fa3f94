"""How are the rows of a matrix quantised to INT8 or FP8 and slid, so that 2:L sparse weights run on 2:4 hardware?"""

from __future__ import annotations

from perf_kernels.slide_quantization.launch import LaunchConfig, bytes_moved, launch_config, padded_rows, slid_width
from perf_kernels.slide_quantization.ops import slide_quantize_rows
from perf_kernels.slide_quantization.reference import slide, slide_quantize_rows_reference

__all__ = [
    "LaunchConfig",
    "bytes_moved",
    "launch_config",
    "padded_rows",
    "slid_width",
    "slide",
    "slide_quantize_rows",
    "slide_quantize_rows_reference",
]
