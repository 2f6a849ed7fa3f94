"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

from perf_kernels.index_width_tests import WIDTH, QuantizerIndexWidthTests
from perfgate.static.figures import Figures


class TestSiluMulQuantization(QuantizerIndexWidthTests):
    package = "perf_kernels.silu_mul_quantization"
    twin = "int8-18944"
    twin_operations = ("arith.muli", "arith.muli", "tt.addptr", "tt.addptr")
    everywhere = "int8-8192"
    also = ("VENDOR_LAUNCHES",)
    kernels_compiled = 13
    # The input has twice as many columns, and its offsets wrap first.
    width = WIDTH // 2

    def test_loads_are_16_bytes_wide(self, kernels: dict[str, Figures]) -> None:
        assert {name: found.load_width for name, found in kernels.items() if found.load_width < 16} == {}
