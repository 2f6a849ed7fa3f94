"""What does ``quantize_rows`` refuse, and what does it make of nothing?"""

from __future__ import annotations

from perf_kernels.quantizer_tests import QuantizerTests
from perf_kernels.row_quantization import quantize_rows


class TestArguments(QuantizerTests):
    caller = "quantize_rows"
    argument = "x"
    max_width = 2**30
    quantize = staticmethod(quantize_rows)
