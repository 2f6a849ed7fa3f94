"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.index_width import narrow_offsets
from perf_kernels.row_quantization import quantize_rows, quantize_rows_reference
from perf_kernels.row_quantization.inputs import random_rows

#: Gate and up projection of Qwen2.5-7B: 2 x 18944 columns.
ROWS, WIDTH = 65_536, 37_888
#: The first row whose offset is past 2**31 - 1.
FIRST_WRAPPED_ROW = 56_680

COMPILE = """
import json, re
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from perf_kernels.index_width import narrow_offsets
from perf_kernels.row_quantization.naive_twin import naive_kernel
from perf_kernels.row_quantization.specialisations import compile_for

def describe(compiled):
    text = compiled.asm.get("ptx") or compiled.asm["amdgcn"]
    spills = len(re.findall(r"(?:ld|st)\\.local|scratch_(?:load|store)", text))
    loads = re.findall(r"ld\\.global\\.\\S+|(?:global|buffer)_load_\\w+", text)
    return {"narrow": narrow_offsets(compiled.asm["ttir"]), "spills": spills, "loads": loads}

found = {}
for backend, arch, lanes in [("cuda", 80, 32), ("cuda", 89, 32), ("cuda", 90, 32), ("cuda", 100, 32),
                             ("hip", "gfx90a", 64), ("hip", "gfx942", 64), ("hip", "gfx1100", 32)]:
    target = GPUTarget(backend, arch, lanes)
    found[f"{arch} int8 one pass"] = describe(compile_for(target, 18944))
    if arch in (89, 90, 100, "gfx942"):
        found[f"{arch} fp8 one pass"] = describe(compile_for(target, 18944, "fp8e4nv"))
target = GPUTarget("cuda", 90, 32)
found["90 int8 two passes"] = describe(compile_for(target, 2**20))
found["90 int8 odd width"] = describe(compile_for(target, 18943))
for width in (2048, 3072, 3584, 5120, 8192, 13824, 37888):
    found[f"90 int8 {width}"] = describe(compile_for(target, width))
types = {"x_ptr": "*bf16", "q_ptr": "*i8", "scale_ptr": "*fp32"}
types |= {"width": "i32", "row_stride": "i32", "TILE": "constexpr"}
twin = triton.compile(ASTSource(fn=naive_kernel, signature=types, constexprs={"TILE": 1024}, attrs={}), target=target)
found["naive twin"] = describe(twin)
print(json.dumps(found))
"""

INTERPRET = """
import resource, sys
import torch, triton
from perf_kernels.index_width import interpreted
from perf_kernels.interpreter import round_as_a_gpu
from perf_kernels.row_quantization import quantize_rows, quantize_rows_reference
from perf_kernels.row_quantization.naive_twin import naive_kernel

which, rows, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
round_as_a_gpu()
# Memory is committed only where it is touched: 7.5 GB are reserved, the last rows are used.
x = torch.empty(rows, width, dtype=torch.bfloat16)
q, scale = torch.empty(rows, width, dtype=torch.int8), torch.empty(rows)
last = range(rows - 2, rows)
x[last.start :] = torch.randn(2, width, generator=torch.Generator().manual_seed(0))
with interpreted(last, grid=rows):
    if which == "kernel":
        quantize_rows(x, out=(q, scale))
    else:
        naive_kernel[(rows,)](x, q, scale, width, x.stride(0), triton.next_power_of_2(width))
expected_q, expected_scale = quantize_rows_reference(x[last.start :])
assert torch.equal(q[last.start :], expected_q)
assert torch.equal(scale[last.start :], expected_scale)
print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")
"""


@pytest.fixture(scope="module")
def compiled() -> Any:
    """Compile the kernel for all targets in a child process: in this one it may be interpreted."""
    done = run(COMPILE, interpret=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_compiled_offsets_are_wide(compiled: dict[str, Any]) -> None:
    kernels = {name: found for name, found in compiled.items() if name != "naive twin"}
    assert len(kernels) == 20
    assert {name: found["narrow"] for name, found in kernels.items() if found["narrow"]} == {}


def test_compiled_code_does_not_spill(compiled: dict[str, Any]) -> None:
    assert {name: found["spills"] for name, found in compiled.items() if found["spills"]} == {}


def test_loads_are_16_bytes_wide(compiled: dict[str, Any]) -> None:
    # Every other element of an odd width is misaligned for anything wider than itself.
    for name, found in compiled.items():
        wide = [load for load in found["loads"] if load.startswith("ld.global.v4") or load.endswith(("x4", "b128"))]
        if name in ("naive twin", "90 int8 odd width"):
            assert wide == []
        else:
            assert wide == found["loads"] != []


def test_compile_check_catches_the_naive_twin(compiled: dict[str, Any]) -> None:
    found = compiled["naive twin"]["narrow"]
    assert [line.split(" = ")[1].split(" ")[0] for line in found] == ["arith.muli", "tt.addptr", "tt.addptr"]


def test_interpreted_at_the_real_shape() -> None:
    done = run(INTERPRET, "kernel", ROWS, WIDTH, interpret=True)
    assert done.returncode == 0, done.stderr
    # Resident memory: the tensors are 14.9 GB of address space. torch alone takes 1 GiB where it is built for CUDA.
    assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n")


def test_interpreter_check_catches_the_naive_twin() -> None:
    done = run(INTERPRET, "twin", ROWS, WIDTH, interpret=True)
    assert done.returncode == 1
    assert "int32 overflow detected for operation mul" in done.stderr


def test_interpreter_check_lets_the_naive_twin_pass_below_the_limit() -> None:
    # Otherwise the twin might be caught for another reason than its offsets.
    done = run(INTERPRET, "twin", 4, 512, interpret=True)
    assert "int32 overflow" not in done.stderr


@pytest.mark.parametrize(
    ("ttir", "narrow"),
    [
        ("%0 = tt.get_program_id x : i32\n%1 = tt.addptr %p, %0 : !tt.ptr<f32>, i32", []),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %c : i32\n"
            "%2 = arith.extsi %1 : i32 to i64\n%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64",
            [],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %c : i32\n"
            "%2 = tt.splat %1 : i32 -> tensor<8xi32>\n%3 = tt.addptr %p, %2 : tensor<8x!tt.ptr<f32>>, tensor<8xi32>",
            ["%3 = tt.addptr %p, %2 : tensor<8x!tt.ptr<f32>>, tensor<8xi32>"],
        ),
        (
            "%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %stride : i32 loc(#loc3)\n"
            "%2 = arith.extsi %1 : i32 to i64\n%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64",
            ["%1 = arith.muli %0, %stride : i32"],
        ),
        (
            "%0 = tt.get_program_id x : i32\n%1 = arith.extsi %0 : i32 to i64\n%2 = arith.muli %1, %stride : i64\n"
            "%3 = tt.addptr %p, %2 : !tt.ptr<f32>, i64",
            [],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %c : i32\n"
            "%r = scf.for %i = %zero to %n step %c iter_args(%at = %zero) -> (i32) : i32 {\n"
            "  %2 = tt.addptr %p, %at : !tt.ptr<f32>, i32\n  scf.yield %1 : i32\n}",
            ["%2 = tt.addptr %p, %at : !tt.ptr<f32>, i32"],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n%1 = arith.muli %0, %c : i32\n"
            "%r = scf.if %cond -> (i32) {\n  scf.yield %zero : i32\n} else {\n  scf.yield %1 : i32\n}\n"
            "%2 = tt.addptr %p, %r : !tt.ptr<f32>, i32",
            ["%2 = tt.addptr %p, %r : !tt.ptr<f32>, i32"],
        ),
        (
            "%c = arith.constant 64 : i32\n%0 = tt.get_program_id x : i32\n"
            "scf.if %cond {\n  %1 = arith.muli %0, %c : i32\n} else {\n"
            "  %1 = arith.muli %n, %c : i32\n  %2 = tt.addptr %p, %1 : !tt.ptr<f32>, i32\n}",
            [],
        ),
    ],
    ids=[
        "row",
        "tile start made wide",
        "tile start",
        "stride then wide",
        "wide",
        "through a loop",
        "through a branch",
        "same name elsewhere",
    ],
)
def test_narrow_offsets(ttir: str, narrow: list[str]) -> None:
    assert narrow_offsets(ttir) == narrow


@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("rows", [FIRST_WRAPPED_ROW + 1, ROWS])
def test_real_shape(rows: int) -> None:
    """Every code of a matrix past 2**31 elements, between canary rows."""
    assert rows * WIDTH > 2**31
    x = random_rows(rows, WIDTH, torch.bfloat16, "cuda", seed=5)
    canary = 0x55
    room = torch.full((rows + 2, WIDTH), canary, dtype=torch.int8, device="cuda")
    scales = torch.full((rows + 2,), torch.nan, device="cuda")
    q, scale = quantize_rows(x, out=(room[1:-1], scales[1:-1]))
    torch.cuda.synchronize()
    for start in range(0, rows, 2048):
        part = slice(start, start + 2048)
        expected_q, expected_scale = quantize_rows_reference(x[part])
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
    row = random_rows(1, width, torch.bfloat16, "cuda", seed=6)
    alone_q, alone_scale = quantize_rows(row)
    room = torch.empty(2 * stride + width + 16, dtype=torch.bfloat16, device="cuda")
    x = room.as_strided((3, width), (stride, 1))
    x.copy_(row.expand(3, width))
    q, scale = quantize_rows(x)
    assert torch.equal(q, alone_q.expand(3, width))
    assert torch.equal(scale, alone_scale.expand(3))
    q, _ = quantize_rows(room[stride : stride + width].view(1, width))
    assert torch.equal(q, alone_q)
