"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import pytest

from perf_kernels.index_width_tests import FIRST_WRAPPED_ROW, WIDTH, QuantizerIndexWidthTests
from perf_kernels.slide_quantization import slid_width
from perf_kernels.slide_quantization.launch import GROUPS
from perf_kernels.slide_quantization.past_int32 import GROUP
from perf_kernels.undeclared_tests import around_int32
from perfgate.static.figures import Figures

#: The first row whose offset is past 2**31 - 1 in the result, which has 1.5 times as many columns.
FIRST_WRAPPED_RESULT = 37_787


class TestSlideQuantization(QuantizerIndexWidthTests):
    package = "perf_kernels.slide_quantization"
    twin = "int8-8-18944"
    twin_operations = ("arith.muli", "arith.muli", "tt.addptr", "tt.addptr")
    everywhere = "int8-8-3584"
    also = ("VENDOR_LAUNCHES",)
    kernels_compiled = 14
    # Where only the result wraps.
    wrapping = (FIRST_WRAPPED_RESULT + 1, WIDTH)

    def test_loads_are_as_wide_as_a_unit_allows(self, kernels: dict[str, Figures]) -> None:
        # Bytes that 2 groups of 4, 6, 8 and 12 columns of 2 bytes and one of 10 columns divide by.
        for group, width in {4: 16, 6: 8, 8: 16, 10: 4, 12: 16}.items():
            assert kernels[f"int8-{group}-3584 sm90"].load_width == width
        for name in ("int8-8-3584 sm80", "int8-8-3584 gfx942", "fp8-8-3584 sm90", "int8-8-18944 sm90"):
            assert kernels[name].load_width == 16

    def test_stores_are_wide(self, kernels: dict[str, Figures]) -> None:
        """As wide as a unit's windows allow, with Triton 3.6.0 as with 3.9.0; what is tuned may have other units."""
        found = {group: kernels[f"int8-{group}-3584 sm90"] for group in GROUPS}
        assert {group: int(each.form.arguments["GROUPS"][1:]) for group, each in found.items()} == GROUPS
        widths = {group: {size for size, number in each.code.stores.items() if number} for group, each in found.items()}
        # A scale and, in rows that are not finite, zeros are stored in 4 bytes.
        assert widths == {4: {8, 4}, 6: {16, 4}, 8: {8, 4}, 10: {16, 4}, 12: {8, 4}}

    def test_where_the_offsets_wrap(self) -> None:
        columns = slid_width(WIDTH, GROUP)
        assert (FIRST_WRAPPED_RESULT - 1) * columns < 2**31 <= FIRST_WRAPPED_RESULT * columns
        assert (FIRST_WRAPPED_ROW - 1) * WIDTH < 2**31 <= FIRST_WRAPPED_ROW * WIDTH
        rows, _ = self.wrapping
        assert (rows - 1) * columns > 2**31 > rows * WIDTH

    @around_int32
    @pytest.mark.cuda
    @pytest.mark.vram(24)
    @pytest.mark.isolate
    def test_real_shape_where_only_the_result_wraps(self) -> None:
        self.check_every_code(FIRST_WRAPPED_RESULT + 1)
