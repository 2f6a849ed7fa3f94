"""Which configurations of row quantisation does ``perfgate tune row_quantization`` try, and on which shapes?"""

from __future__ import annotations

from perf_kernels.model_shapes import WIDTHS
from perf_kernels.row_quantization.inputs import random_rows
from perf_kernels.row_quantization.ops import choose, quantize_rows
from perf_kernels.row_tuning import row_tunable

#: The widths of the served models.
TUNABLE = row_tunable(choose, quantize_rows, random_rows, WIDTHS)
