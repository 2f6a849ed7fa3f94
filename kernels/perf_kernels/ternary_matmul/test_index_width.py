"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.index_width_tests import caught
from perf_kernels.ternary_matmul import packed_bytes, ternary_matmul, ternary_matmul_reference
from perf_kernels.ternary_matmul.inputs import random_layer, random_tokens
from perf_kernels.undeclared_tests import around_int32
from perfgate.static.figures import Figures
from perfgate.static.pool import compile_all, shared
from perfgate.static.targets import TARGETS

#: As wide as is supported, so that the packed weights pass 2**31 bytes with few rows: row 65,536 starts there.
OUTPUTS, WIDTH = 65_600, 2**17

PLACE = "perf_kernels.ternary_matmul.specialisations"
TWIN = "naive-6912-2560"

INTERPRET = """
import contextlib, resource, sys
import torch, triton
from perf_kernels.index_width import interpreted
from perf_kernels.interpreter import round_as_a_gpu
from perf_kernels.narrowed import narrowed
from perf_kernels.ternary_matmul import ops
from perf_kernels.ternary_matmul import LaunchConfig, ternary_matmul, ternary_matmul_reference, unpack_ternary
from perf_kernels.ternary_matmul.naive_twin import naive_kernel

round_as_a_gpu()
which, outputs, width, tokens = sys.argv[1], *map(int, sys.argv[2:])
# Memory is committed only where it is touched: 2 GiB are reserved, the last rows are used.
packed = torch.empty(outputs, width // 4, dtype=torch.uint8)
generator = torch.Generator().manual_seed(0)
packed[-16:] = torch.randint(0, 3, (16, width // 4), dtype=torch.uint8, generator=generator) * 0b01_01_01
gamma = torch.tensor(0.5)
x = torch.randn(tokens, width, generator=generator)
programs = outputs if which == "twin" else outputs // 16
kernels = ("_quantize_kernel", "_batch_kernel")
twin = narrowed(ops, *kernels) if which == "narrow" else contextlib.nullcontext()
with interpreted([programs - 1], grid=programs), twin:
    if which != "twin":
        slices = min(32 if tokens == 1 else 4, width // 256)
        config = LaunchConfig(num_warps=1, outputs=16, step=16, slices=slices, tokens=1 if tokens == 1 else 8)
        y = ternary_matmul(x, packed, gamma, config=config)
    else:
        y = torch.empty(outputs)
        naive_kernel[(outputs,)](x[0], packed, gamma, y, width, packed.stride(0), triton.next_power_of_2(width))
        y = y.view(1, outputs)
last = slice(-16 if which != "twin" else -1, None)
codes = unpack_ternary(packed[last].contiguous(), width)
expected = ternary_matmul_reference(x, codes, gamma)
if which != "twin":
    assert torch.equal(y[:, last], expected)
else:
    # Another order of operations; its fp32 sum is exact below 2**24.
    torch.testing.assert_close(y[:, last], expected, rtol=1e-5, atol=0)
print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")
"""


@pytest.fixture(scope="module")
def kernels() -> dict[str, Figures]:
    """Compile every launch for one target and one for all, in another process: in this one kernels may be interpreted.

    The static gate compiles most of them for all targets.
    """
    answers = {
        where: answer
        for place in (PLACE, f"{PLACE}:VENDOR_LAUNCHES")
        for where, answer in compile_all(place, list(shared().launches(place).code), ["sm90"]).items()
    }
    answers |= compile_all(PLACE, ["bf16-6912-2560-1"], [target for target in TARGETS if target != "sm90"])
    assert {where: answer.reason for where, answer in answers.items() if answer.status != "compiled"} == {}
    return {" ".join([*where, kernel.name]): kernel for where, answer in answers.items() for kernel in answer.kernels}


@pytest.fixture(scope="module")
def twin() -> Figures:
    """Compile the deliberate mistake."""
    return compile_all(f"{PLACE}:TWIN_LAUNCHES", [TWIN], ["sm90"])[TWIN, "sm90"].kernels[0]


def test_every_launch_is_compiled(kernels: dict[str, Figures]) -> None:
    # Six for one token and four for more, which take two kernels each; one for six other targets.
    assert len(kernels) == 6 + 2 * 4 + 6


def test_compiled_offsets_are_wide(kernels: dict[str, Figures]) -> None:
    assert {name: found.narrow_offsets for name, found in kernels.items() if found.narrow_offsets} == {}


def test_compiled_code_does_not_spill(kernels: dict[str, Figures]) -> None:
    assert {name: found.code.spills for name, found in kernels.items() if found.code.spills} == {}


def test_products_are_on_tensor_cores(kernels: dict[str, Figures]) -> None:
    without = {name for name, found in kernels.items() if found.code.tensor_core == 0}
    assert without == {name for name in kernels if not name.endswith("_batch_kernel")}


def test_weights_are_loaded_by_16_bytes(kernels: dict[str, Figures]) -> None:
    """For one token; the four activations that meet a word of weights are 8 bytes, gamma and bias are less."""
    for name, found in kernels.items():
        if "_token_kernel" in name and "fp32" not in name:
            few = 9 if "bias" in name else 1
            assert found.code.loads[16] >= 2, name
            assert sum(found.code.loads.values()) - found.code.loads[16] - found.code.loads[8] <= few, name


def test_compile_check_catches_the_naive_twin(twin: Figures) -> None:
    found = [line.split(" = ")[1].split(" ")[0] for line in twin.narrow_offsets]
    assert found == ["arith.muli", "tt.addptr"]
    assert caught(PLACE, "narrow-6912-2560-8") == ["_quantize_kernel", "_batch_kernel"]


@pytest.mark.parametrize("tokens", [1, 2])
def test_interpreted_at_the_largest_shape(tokens: int) -> None:
    assert (OUTPUTS - 16) * packed_bytes(WIDTH) > 2**31 - 1
    done = run(INTERPRET, "kernel", OUTPUTS, WIDTH, tokens, interpret=True)
    assert done.returncode == 0, done.stderr
    # Resident memory: torch alone takes 1 GiB where it is built for CUDA.
    assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n")


@pytest.mark.parametrize(("which", "tokens"), [("twin", 1), ("narrow", 2)])
def test_interpreter_check_catches_the_naive_twin(which: str, tokens: int) -> None:
    done = run(INTERPRET, which, OUTPUTS, WIDTH, tokens, interpret=True)
    assert done.returncode == 1
    assert "int32 overflow detected for operation mul" in done.stderr


@pytest.mark.parametrize(("which", "tokens"), [("twin", 1), ("narrow", 2)])
def test_interpreter_check_lets_the_naive_twin_pass_below_the_limit(which: str, tokens: int) -> None:
    # Otherwise the twin might be caught for another reason than its offsets.
    # Seven programs: no other loop is as long.
    done = run(INTERPRET, which, 112, 512, tokens, interpret=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("equals the reference")


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("tokens", [1, 3])
def test_largest_shape(tokens: int) -> None:
    """All outputs of packed weights past 2**31 bytes; rows repeat every 64, so that the reference is small."""
    layer = random_layer(WIDTH, 64, "cuda", seed=1)
    packed = layer.packed.repeat(OUTPUTS // 64, 1)
    assert packed.numel() > 2**31
    x = random_tokens(tokens, WIDTH, torch.bfloat16, "cuda", seed=2)
    y = ternary_matmul(x, packed, layer.gamma)
    expected = ternary_matmul_reference(x, layer.codes, layer.gamma)
    assert torch.equal(y.view(tokens, -1, 64), expected[:, None].expand(tokens, OUTPUTS // 64, 64))


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("stride", [2**30, 2**31 - 1, 2**31, 2**31 + 1])
def test_distant_tokens(stride: int) -> None:
    """A token gives the same bits wherever it lies: three of them this far apart, and a storage offset of as much."""
    width = 2560
    layer = random_layer(width, 640, "cuda", seed=3)
    row = random_tokens(1, width, torch.bfloat16, "cuda", seed=4)
    alone = ternary_matmul(row, layer.packed, layer.gamma)
    room = torch.empty(2 * stride + width + 16, dtype=torch.bfloat16, device="cuda")
    x = room.as_strided((3, width), (stride, 1))
    x.copy_(row.expand(3, width))
    assert torch.equal(ternary_matmul(x, layer.packed, layer.gamma), alone.expand(3, 640))
    assert torch.equal(ternary_matmul(room[stride : stride + width].view(1, width), layer.packed, layer.gamma), alone)
