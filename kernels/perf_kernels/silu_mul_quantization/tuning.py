"""Which configurations does ``perfgate tune silu_mul_quantization`` try, and on which shapes?"""

from __future__ import annotations

from perf_kernels.model_shapes import MODELS
from perf_kernels.row_tuning import row_tunable
from perf_kernels.silu_mul_quantization.inputs import random_gate_up
from perf_kernels.silu_mul_quantization.ops import choose, silu_mul_quantize

#: The widths of the served models' MLPs.
_WIDTHS = sorted({model.intermediate for model in MODELS})

TUNABLE = row_tunable(choose, silu_mul_quantize, random_gate_up, _WIDTHS)
