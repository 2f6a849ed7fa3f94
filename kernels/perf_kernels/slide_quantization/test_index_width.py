"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.slide_quantization import slid_width, slide_quantize_rows, slide_quantize_rows_reference
from perf_kernels.slide_quantization.inputs import random_rows
from perfgate.static.figures import Figures
from perfgate.static.pool import compile_all, shared
from perfgate.static.targets import TARGETS

#: Gate and up projection of Qwen2.5-7B: 2 x 18944 columns, 1.5 times as many in the result for L = 8.
ROWS, WIDTH, GROUP = 65_536, 37_888, 8
#: The first rows whose offset is past 2**31 - 1, in the result and in the input.
FIRST_WRAPPED_RESULT, FIRST_WRAPPED_INPUT = 37_787, 56_680

PLACE = "perf_kernels.slide_quantization.specialisations"
TWIN = "int8-8-18944"

INTERPRET = """
import resource, sys
import torch
from perf_kernels.index_width import interpreted
from perf_kernels.interpreter import round_as_a_gpu
from perf_kernels.slide_quantization import padded_rows, slid_width, slide_quantize_rows, slide_quantize_rows_reference
from perf_kernels.slide_quantization.naive_twin import naive_slide

which, rows, width, group = sys.argv[1], *map(int, sys.argv[2:])
round_as_a_gpu()
# Memory is committed only where it is touched: 8.7 GB are reserved, the last rows are used.
x = torch.empty(rows, width, dtype=torch.bfloat16)
q = torch.empty(padded_rows(rows), slid_width(width, group), dtype=torch.int8)
scale = torch.empty(padded_rows(rows))
last = range(rows - 2, rows)
x[last.start :] = torch.randn(2, width, generator=torch.Generator().manual_seed(0))
if which == "kernel":
    with interpreted(last, grid=padded_rows(rows)):
        slide_quantize_rows(x, group, out=(q, scale))
else:
    with interpreted(last, grid=rows):
        naive_slide(x, group, q, scale)
expected_q, expected_scale = slide_quantize_rows_reference(x[last.start :], group)
assert torch.equal(q[last.start : rows], expected_q[:2])
assert torch.equal(scale[last.start : rows], expected_scale[:2])
print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")
"""


@pytest.fixture(scope="module")
def kernels() -> dict[str, Figures]:
    """Compile every launch for one target and one for all, in another process: in this one kernels may be interpreted.

    The static gate compiles all of them for all targets.
    """
    answers = compile_all(PLACE, list(shared().launches(PLACE).code), ["sm90"])
    answers |= compile_all(PLACE, ["int8-8-3584"], [target for target in TARGETS if target != "sm90"])
    assert {where: answer.reason for where, answer in answers.items() if answer.status != "compiled"} == {}
    return {" ".join(where): kernel for where, answer in answers.items() for kernel in answer.kernels}


@pytest.fixture(scope="module")
def twin() -> Figures:
    """Compile the deliberate mistake."""
    return compile_all(f"{PLACE}:TWIN_LAUNCHES", [TWIN], ["sm90"])[TWIN, "sm90"].kernels[0]


def test_every_launch_is_one_kernel(kernels: dict[str, Figures]) -> None:
    assert len(kernels) == 14


def test_compiled_offsets_are_wide(kernels: dict[str, Figures]) -> None:
    assert {name: found.narrow_offsets for name, found in kernels.items() if found.narrow_offsets} == {}


def test_compiled_code_does_not_spill(kernels: dict[str, Figures]) -> None:
    assert {name: found.code.spills for name, found in kernels.items() if found.code.spills} == {}


def test_loads_are_as_wide_as_a_unit_allows(kernels: dict[str, Figures]) -> None:
    # Bytes that 2 groups of 4, 6, 8 and 12 columns of 2 bytes and one of 10 columns divide by.
    for group, width in {4: 16, 6: 8, 8: 16, 10: 4, 12: 16}.items():
        assert kernels[f"int8-{group}-3584 sm90"].load_width == width
    for name in ("int8-8-3584 sm80", "int8-8-3584 gfx942", "fp8-8-3584 sm90", "int8-8-18944 sm90"):
        assert kernels[name].load_width == 16


def test_stores_are_wide(kernels: dict[str, Figures]) -> None:
    # A scale and, in rows that are not finite, zeros are stored in 4 bytes.
    for group, width in {4: 8, 6: 16, 8: 8, 10: 16, 12: 8}.items():
        stores = kernels[f"int8-{group}-3584 sm90"].code.stores
        assert {bytes_ for bytes_, number in stores.items() if number} == {width, 4}


def test_compile_check_catches_the_naive_twin(twin: Figures) -> None:
    assert "arith.muli" in {line.split(" = ")[1].split(" ")[0] for line in twin.narrow_offsets}


def test_interpreted_at_the_real_shape() -> None:
    done = run(INTERPRET, "kernel", ROWS, WIDTH, GROUP, interpret=True)
    assert done.returncode == 0, done.stderr
    # Resident memory: the tensors are 8.7 GB of address space. torch alone takes 1 GiB where it is built for CUDA.
    assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n")


def test_interpreter_check_catches_the_naive_twin_where_only_the_result_wraps() -> None:
    rows = FIRST_WRAPPED_RESULT + 1
    assert (rows - 1) * slid_width(WIDTH, GROUP) > 2**31 > rows * WIDTH
    done = run(INTERPRET, "twin", rows, WIDTH, GROUP, interpret=True)
    assert done.returncode == 1
    assert "int32 overflow detected for operation mul" in done.stderr


def test_interpreter_check_lets_the_naive_twin_pass_below_the_limit() -> None:
    # Otherwise the twin might be caught for another reason than its offsets.
    done = run(INTERPRET, "twin", 4, 512, GROUP, interpret=True)
    assert "int32 overflow" not in done.stderr


def test_where_the_offsets_wrap() -> None:
    columns = slid_width(WIDTH, GROUP)
    assert (FIRST_WRAPPED_RESULT - 1) * columns < 2**31 <= FIRST_WRAPPED_RESULT * columns
    assert (FIRST_WRAPPED_INPUT - 1) * WIDTH < 2**31 <= FIRST_WRAPPED_INPUT * WIDTH


@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("rows", [FIRST_WRAPPED_RESULT + 1, 56_679, 56_680, 56_681, ROWS])
def test_real_shape(rows: int) -> None:
    """Every code of a result past 2**31 bytes, between canary rows."""
    columns = slid_width(WIDTH, GROUP)
    assert rows * columns > 2**31
    x = random_rows(rows, WIDTH, torch.bfloat16, "cuda", seed=5)
    canary = 0x55
    made = -(-rows // 16) * 16
    room = torch.full((made + 2, columns), canary, dtype=torch.int8, device="cuda")
    scales = torch.full((made + 2,), torch.nan, device="cuda")
    q, scale = slide_quantize_rows(x, GROUP, out=(room[1:-1], scales[1:-1]))
    torch.cuda.synchronize()
    for start in range(0, rows, 2048):
        part = x[start : start + 2048]
        expected_q, expected_scale = slide_quantize_rows_reference(part, GROUP)
        assert torch.equal(q[start : start + len(part)], expected_q[: len(part)])
        assert torch.equal(scale[start : start + len(part)], expected_scale[: len(part)])
    assert q[rows:].count_nonzero() == 0
    assert (scale[rows:] == 1).all()
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
    row = random_rows(1, width, torch.bfloat16, "cuda", seed=6)
    alone_q, alone_scale = slide_quantize_rows(row, GROUP)
    room = torch.empty(2 * stride + width + 16, dtype=torch.bfloat16, device="cuda")
    x = room.as_strided((3, width), (stride, 1))
    x.copy_(row.expand(3, width))
    q, scale = slide_quantize_rows(x, GROUP)
    assert torch.equal(q[:3], alone_q[:1].expand(3, -1))
    assert torch.equal(scale[:3], alone_scale[:1].expand(3))
    q, _ = slide_quantize_rows(room[stride : stride + width].view(1, width), GROUP)
    assert torch.equal(q, alone_q)
