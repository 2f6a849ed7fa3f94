"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from perf_kernels.dequantize_bias import dequantize_bias, dequantize_bias_reference
from perf_kernels.dequantize_bias.inputs import random_products
from perf_kernels.index_width_tests import ROWS, ROWS_AROUND, STRIDES_AROUND, WIDTH, IndexWidthTests
from perf_kernels.undeclared_tests import around_int32
from perfgate.static.figures import Figures

INTERPRET = """
import resource, sys
import torch
from perf_kernels.dequantize_bias import LaunchConfig, dequantize_bias, dequantize_bias_reference
from perf_kernels.dequantize_bias.naive_twin import naive_dequantize
from perf_kernels.index_width import interpreted
from perf_kernels.interpreter import round_as_a_gpu

which, rows, columns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
round_as_a_gpu()
# Memory is committed only where it is touched: 14.9 GB are reserved, the last rows are used.
acc = torch.empty(rows, columns, dtype=torch.int32)
y = torch.empty(rows, columns, dtype=torch.bfloat16)
generator = torch.Generator().manual_seed(0)
row_scale, column_scale = torch.rand(rows, generator=generator), torch.rand(columns, generator=generator)
last = slice(rows - 4, rows)
acc[last] = torch.randint(-(2**20), 2**20, (4, columns), dtype=torch.int32, generator=generator)
if which == "kernel":
    config = LaunchConfig(4, 1024, 4)
    grid = config.tiles(rows, columns)
    with interpreted(range(grid - -(-columns // 1024), grid), grid=grid):
        dequantize_bias(acc, row_scale, column_scale, config=config, out=y)
    # In place, as what the column scales were applied to is scaled.
    scaled = torch.empty(rows, columns, dtype=torch.bfloat16)
    scaled[last] = acc[last].bfloat16()
    with interpreted(range(grid - -(-columns // 1024), grid), grid=grid):
        dequantize_bias(scaled, row_scale, None, config=config, out=scaled)
    assert torch.equal(scaled[last], dequantize_bias_reference(acc[last].bfloat16(), row_scale[last], None))
else:
    with interpreted(range(rows - 4, rows), grid=rows):
        naive_dequantize(acc, row_scale, column_scale, y)
assert torch.equal(y[last], dequantize_bias_reference(acc[last], row_scale[last], column_scale))
print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")
"""


class TestDequantizeBias(IndexWidthTests):
    package = "perf_kernels.dequantize_bias"
    twin = "int32-bf16-37888"
    twin_operations = ("arith.muli", "tt.addptr", "tt.addptr")
    everywhere = "int32-bf16-bias-4608"
    also = ("VENDOR_LAUNCHES",)
    kernels_compiled = 19
    program = INTERPRET
    real = wrapping = (ROWS, WIDTH)
    small = (6, 512)

    def test_accesses_are_wide(self, kernels: dict[str, Figures]) -> None:
        # Scales and bias are read in narrower ones.
        for name in ("int32-bf16-37888", "int32-bf16-bias-4608", "int32-fp16-3584", "int32-fp32-3584"):
            found = kernels[f"{name} sm90"].code
            assert found.loads[16] >= 8
            assert present(found.stores) == ({16: 8} if "fp32" in name else {8: 8})
        for name in ("bf16-bf16-37888", "bf16-bf16-bias-4608"):
            found = kernels[f"{name} sm90"].code
            assert found.loads[16] >= 4
            assert present(found.stores) == {16: 4}
        # Every other row of an odd width is misaligned for anything wider than an element.
        assert kernels["int32-bf16-odd-3585 sm90"].code.stores[8] == 0

    @around_int32
    @pytest.mark.cuda
    @pytest.mark.vram(24)
    @pytest.mark.isolate
    @pytest.mark.parametrize("rows", ROWS_AROUND)
    def test_real_shape(self, rows: int) -> None:
        """Every result of a matrix past 2**31 elements, between canary rows."""
        acc, row_scale, column_scale, bias = random_products(rows, WIDTH, torch.int32, "cuda", seed=5)
        room = torch.full((rows + 2, WIDTH), torch.nan, dtype=torch.bfloat16, device="cuda")
        y = dequantize_bias(acc, row_scale, column_scale, bias, out=room[1:-1])
        torch.cuda.synchronize()
        for start in range(0, rows, 2048):
            part = slice(start, start + 2048)
            assert torch.equal(y[part], dequantize_bias_reference(acc[part], row_scale[part], column_scale, bias))
        assert room[[0, -1]].isnan().all()

    @around_int32
    @pytest.mark.cuda
    @pytest.mark.vram(16)
    @pytest.mark.isolate
    @pytest.mark.parametrize("rows", ROWS_AROUND)
    def test_real_shape_in_place(self, rows: int) -> None:
        """The same of bf16 that the column scales were applied to, in every row the same but for its scale."""
        acc, row_scale, _, bias = random_products(1, WIDTH, torch.bfloat16, "cuda", seed=7)
        row_scale = torch.linspace(0.02, 0.04, rows, device="cuda")
        room = torch.full((rows + 2, WIDTH), torch.nan, dtype=torch.bfloat16, device="cuda")
        y = room[1:-1]
        y.copy_(acc.expand(rows, WIDTH))
        dequantize_bias(y, row_scale, None, bias, out=y)
        torch.cuda.synchronize()
        for start in range(0, rows, 2048):
            part = slice(start, start + 2048)
            expected = dequantize_bias_reference(acc.expand(len(row_scale[part]), WIDTH), row_scale[part], None, bias)
            assert torch.equal(y[part], expected)
        assert room[[0, -1]].isnan().all()

    @around_int32
    @pytest.mark.cuda
    @pytest.mark.vram(32)
    @pytest.mark.isolate
    @pytest.mark.parametrize("stride", STRIDES_AROUND)
    def test_distant_rows(self, stride: int) -> None:
        """A row gives the same bits wherever it lies: three rows this far apart, and a storage offset of as much."""
        columns = 3584
        acc, row_scale, column_scale, bias = random_products(1, columns, torch.int32, "cuda", seed=6)
        alone = dequantize_bias(acc, row_scale, column_scale, bias)
        room = torch.empty(2 * stride + columns + 16, dtype=torch.int32, device="cuda")
        far = room.as_strided((3, columns), (stride, 1))
        far.copy_(acc.expand(3, columns))
        assert torch.equal(dequantize_bias(far, row_scale.repeat(3), column_scale, bias), alone.expand(3, columns))
        near = room[stride : stride + columns].view(1, columns)
        assert torch.equal(dequantize_bias(near, row_scale, column_scale, bias), alone)


def present(accesses: Mapping[int, int]) -> dict[int, int]:
    """Give how many accesses there are of each width in bytes, without widths of which there is none."""
    return {width: count for width, count in accesses.items() if count}
