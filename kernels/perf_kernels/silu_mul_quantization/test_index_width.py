"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.row_quantization import quantize_rows_reference
from perf_kernels.silu_mul_quantization import silu_mul_quantize
from perf_kernels.silu_mul_quantization.inputs import random_gate_up
from perfgate.static.figures import Figures
from perfgate.static.pool import compile_all, shared
from perfgate.static.targets import TARGETS

#: Gate and up projection of Qwen2.5-7B: 2 x 18944 columns.
ROWS, WIDTH = 65_536, 18_944
#: The first row whose offset in the input is past 2**31 - 1.
FIRST_WRAPPED_ROW = 56_680

PLACE = "perf_kernels.silu_mul_quantization.specialisations"
TWIN = "int8-18944"

INTERPRET = """
import resource, sys
import torch
from perf_kernels.index_width import interpreted
from perf_kernels.interpreter import round_as_a_gpu
from perf_kernels.row_quantization import quantize_rows_reference
from perf_kernels.silu_mul_quantization import silu_mul_quantize
from perf_kernels.silu_mul_quantization.naive_twin import naive_silu_mul_quantize

which, rows, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
round_as_a_gpu()
# Memory is committed only where it is touched: 6.2 GB are reserved, the last rows are used.
gate_up = torch.empty(rows, 2 * width, dtype=torch.bfloat16)
q, scale = torch.empty(rows, width, dtype=torch.int8), torch.empty(rows)
last = range(rows - 2, rows)
up = torch.randn(2, width, generator=torch.Generator().manual_seed(0)).bfloat16()
# silu(128) is 128: the product is exact.
gate_up[last.start :] = torch.cat([torch.full_like(up, 128.0), up], dim=1)
with interpreted(last, grid=rows):
    if which == "kernel":
        silu_mul_quantize(gate_up, out=(q, scale))
    else:
        naive_silu_mul_quantize(gate_up, q, scale)
expected_q, expected_scale = quantize_rows_reference(up * 128)
assert torch.equal(q[last.start :], expected_q)
assert torch.equal(scale[last.start :], expected_scale)
print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")
"""


@pytest.fixture(scope="module")
def kernels() -> dict[str, Figures]:
    """Compile every launch for one target and one for all, in another process: in this one kernels may be interpreted.

    The static gate compiles all of them for all targets.
    """
    answers = compile_all(PLACE, list(shared().launches(PLACE).code), ["sm90"])
    answers |= compile_all(PLACE, ["int8-8192"], [target for target in TARGETS if target != "sm90"])
    assert {where: answer.reason for where, answer in answers.items() if answer.status != "compiled"} == {}
    return {" ".join(where): kernel for where, answer in answers.items() for kernel in answer.kernels}


@pytest.fixture(scope="module")
def twin() -> Figures:
    """Compile the deliberate mistake."""
    return compile_all(f"{PLACE}:TWIN_LAUNCHES", [TWIN], ["sm90"])[TWIN, "sm90"].kernels[0]


def test_every_launch_is_one_kernel(kernels: dict[str, Figures]) -> None:
    assert len(kernels) == 13


def test_compiled_offsets_are_wide(kernels: dict[str, Figures]) -> None:
    assert {name: found.narrow_offsets for name, found in kernels.items() if found.narrow_offsets} == {}


def test_compiled_code_does_not_spill(kernels: dict[str, Figures]) -> None:
    assert {name: found.code.spills for name, found in kernels.items() if found.code.spills} == {}


def test_loads_are_16_bytes_wide(kernels: dict[str, Figures]) -> None:
    assert {name: found.load_width for name, found in kernels.items() if found.load_width < 16} == {}


def test_compile_check_catches_the_naive_twin(twin: Figures) -> None:
    assert "arith.muli" in {line.split(" = ")[1].split(" ")[0] for line in twin.narrow_offsets}


def test_interpreted_at_the_real_shape() -> None:
    done = run(INTERPRET, "kernel", ROWS, WIDTH, interpret=True)
    assert done.returncode == 0, done.stderr
    # Resident memory: the tensors are 6.2 GB of address space. torch alone takes 1 GiB where it is built for CUDA.
    assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n")


def test_interpreter_check_catches_the_naive_twin() -> None:
    done = run(INTERPRET, "twin", ROWS, WIDTH, interpret=True)
    assert done.returncode == 1
    assert "int32 overflow detected for operation mul" in done.stderr


def test_interpreter_check_lets_the_naive_twin_pass_below_the_limit() -> None:
    # Otherwise the twin might be caught for another reason than its offsets.
    done = run(INTERPRET, "twin", 4, 512, interpret=True)
    assert "int32 overflow" not in done.stderr


@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("rows", [56_679, FIRST_WRAPPED_ROW, FIRST_WRAPPED_ROW + 1, ROWS])
def test_real_shape(rows: int) -> None:
    """Every code of an input past 2**31 elements, between canary rows."""
    gate_up = random_gate_up(rows, WIDTH, torch.bfloat16, "cuda", seed=5)
    gate_up[:, :WIDTH] = 128.0
    canary = 0x55
    room = torch.full((rows + 2, WIDTH), canary, dtype=torch.int8, device="cuda")
    scales = torch.full((rows + 2,), torch.nan, device="cuda")
    q, scale = silu_mul_quantize(gate_up, out=(room[1:-1], scales[1:-1]))
    torch.cuda.synchronize()
    for start in range(0, rows, 2048):
        part = slice(start, start + 2048)
        expected_q, expected_scale = quantize_rows_reference(gate_up[part, WIDTH:] * 128)
        assert torch.equal(q[part], expected_q)
        assert torch.equal(scale[part], expected_scale)
    assert (room[0] == canary).all()
    assert (room[-1] == canary).all()
    assert scales[[0, -1]].isnan().all()


@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("stride", [2**30, 2**31 - 1, 2**31, 2**31 + 1])
def test_distant_rows(stride: int) -> None:
    """A row gives the same bits wherever it lies: three rows this far apart, and a storage offset of as much."""
    width = 3584
    row = random_gate_up(1, width, torch.bfloat16, "cuda", seed=6)
    alone_q, alone_scale = silu_mul_quantize(row)
    room = torch.empty(2 * stride + 2 * width + 16, dtype=torch.bfloat16, device="cuda")
    far = room.as_strided((3, 2 * width), (stride, 1))
    far.copy_(row.expand(3, 2 * width))
    q, scale = silu_mul_quantize(far)
    assert torch.equal(q, alone_q.expand(3, width))
    assert torch.equal(scale, alone_scale.expand(3))
    q, _ = silu_mul_quantize(room[stride : stride + 2 * width].view(1, 2 * width))
    assert torch.equal(q, alone_q)
