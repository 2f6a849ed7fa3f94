"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from perf_kernels.index_width_tests import QuantizerIndexWidthTests
from perfgate.static.answers import Answer
from perfgate.static.figures import Figures
from perfgate.static.pool import compile_all, shared
from perfgate.static.targets import TARGETS

_NO_FP8 = "quantize_rows: torch.float8_e4m3fn needs compute capability 8.9 or more; this device has 8.0"


class TestRowQuantization(QuantizerIndexWidthTests):
    package = "perf_kernels.row_quantization"
    twin = "naive-3584-65536"
    twin_operations = ("arith.muli", "tt.addptr", "tt.addptr")
    unsupported = (("fp8-3584-65536", "sm80", _NO_FP8),)
    kernels_compiled = 57

    @pytest.fixture
    def answers(self) -> Mapping[tuple[str, str], Answer]:
        """Compile every launch for every target, and those of all models and of one GPU of each vendor for one."""
        return {
            **compile_all(self.place, list(shared().launches(self.place).code), list(TARGETS)),
            **self.compiled(f"{self.place}:VENDOR_LAUNCHES", f"{self.place}:MODEL_LAUNCHES"),
        }

    def test_loads_are_16_bytes_wide(self, kernels: dict[str, Figures]) -> None:
        # Every other element of an odd width or of a stride is misaligned for anything wider than itself.
        narrow = {name for name, found in kernels.items() if found.load_width < 16}
        assert narrow == {name for name in kernels if "-odd" in name or "-strided" in name}
