"""What must a kernel that quantises rows refuse, and what does it make of nothing? Tests for a kernel to inherit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perf_kernels import arguments
from perf_kernels.row_tests import DEVICE, FP8, WRONG_DEVICE, by_code, refusal
from perf_kernels.rows import SMALLEST_SCALE
from perf_kernels.target import Target


class QuantizerTests:
    """Tests of arguments. A subclass says what is called, and what its messages name.

    Attributes:
        caller: name of the function.
        argument: name of the values' argument.
        max_width: the widest values that are supported.
    """

    caller: str
    argument: str
    max_width: int

    @staticmethod
    def quantize(x: torch.Tensor, dtype: torch.dtype = torch.int8, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Call the function."""
        raise NotImplementedError

    @staticmethod
    def shape(rows: int, width: int) -> tuple[int, int]:
        """Give the shape of the codes for values [rows, width]."""
        return rows, width

    def test_wrong_input_type(self) -> None:
        assert refusal(TypeError, self.quantize, torch.zeros(2, 2, dtype=torch.float64, device=DEVICE)) == (
            f"{self.caller}: {self.argument} is torch.float64; "
            "it must be torch.bfloat16, torch.float16 or torch.float32"
        )

    def test_wrong_code_type(self) -> None:
        assert refusal(TypeError, self.quantize, torch.zeros(2, 2, device=DEVICE), torch.uint8) == (
            f"{self.caller}: dtype is torch.uint8; it must be torch.int8 or torch.float8_e4m3fn"
        )

    def test_wrong_dimensions(self) -> None:
        assert refusal(ValueError, self.quantize, torch.zeros(2, 3, 4, device=DEVICE)) == (
            f"{self.caller}: {self.argument} has 3 dimensions; it must have 2, rows and columns"
        )

    def test_wrong_device(self) -> None:
        assert refusal(ValueError, self.quantize, torch.zeros(2, 2, device="meta")) == (
            f"{self.caller}: {self.argument} is on meta; {WRONG_DEVICE}"
        )

    def test_too_wide(self) -> None:
        x = torch.zeros(1, 1, device=DEVICE).expand(1, self.max_width + 1)
        assert refusal(ValueError, self.quantize, x) == (
            f"{self.caller}: {self.argument} has rows of {self.max_width + 1} elements; "
            f"at most {self.max_width} are supported"
        )

    def test_fp8_without_hardware(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arguments, "current_target", lambda: Target("cuda", 80, 32))
        assert refusal(ValueError, self.quantize, torch.zeros(2, 2, device=DEVICE), FP8) == (
            f"{self.caller}: torch.float8_e4m3fn needs compute capability 8.9 or more; this device has 8.0"
        )

    @by_code
    @pytest.mark.parametrize("shape", [(0, 6), (0, 0), (3, 0)], ids=str)
    def test_empty(self, shape: tuple[int, int], code: torch.dtype) -> None:
        q, scale = self.quantize(torch.empty(shape, dtype=torch.bfloat16, device=DEVICE), code)
        assert (q.shape, q.dtype) == (self.shape(*shape), code)
        # Padding rows, where there are any, have the scale 1.
        assert scale.tolist() == [SMALLEST_SCALE] * shape[0] + [1.0] * (len(q) - shape[0])

    def test_wrong_out(self) -> None:
        x = torch.zeros(2, 6, dtype=torch.bfloat16, device=DEVICE)
        shape, where = list(self.shape(2, 6)), str(x.device)
        q, scale = self.quantize(x)
        turned = torch.empty(shape[::-1], dtype=torch.int8, device=DEVICE).t()
        assert refusal(ValueError, self.quantize, x, out=(turned, scale)) == (
            f"{self.caller}: out[0] must be {shape} torch.int8 on {where} with unit column stride; "
            f"it is {shape} torch.int8 on {where} with strides [1, 2]"
        )
        assert refusal(ValueError, self.quantize, x, out=(q, scale.double())) == (
            f"{self.caller}: out[1] must be [2] torch.float32 on {where}, contiguous; "
            f"it is [2] torch.float64 on {where} with strides [1]"
        )
