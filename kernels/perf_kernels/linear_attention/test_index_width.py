"""Are offsets of rows 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.index_width_tests import STRIDES_AROUND, IndexWidthTests, caught
from perf_kernels.linear_attention import LaunchConfig, chunk_linear_attention, chunked_reference, relative_rms
from perf_kernels.linear_attention.inputs import random_heads
from perf_kernels.target import DEVICE_TYPE
from perf_kernels.undeclared_tests import around_int32, few_tokens
from perfgate.static.figures import Figures

#: 64 tokens of 32 heads x 128: sequence 8192 starts at element 2**31.
TOKENS, HEADS, WIDTH = 64, 32, 128
FIRST_WRAPPED_SEQUENCE = 8192

INTERPRET = """
import contextlib, resource, sys
import torch
from perf_kernels.index_width import interpreted
from perf_kernels.interpreter import round_as_a_gpu
from perf_kernels.linear_attention import attend
from perf_kernels.linear_attention.attend import attend_chunks
from perf_kernels.linear_attention.naive_twin import naive_states
from perf_kernels.linear_attention.reference import chunked_reference, relative_rms
from perf_kernels.narrowed import narrowed

which, batch, tokens, heads, width = sys.argv[1], *map(int, sys.argv[2:])
round_as_a_gpu()
# Memory is committed only where it is touched: 4.3 GB are reserved for each, one head of one sequence is used.
q, k, v = (torch.empty(batch, tokens, heads, width, dtype=torch.bfloat16) for _ in range(3))
generator = torch.Generator().manual_seed(0)
last = [x[-1:, :, -1:] for x in (q, k, v)]
for x in last:
    x.copy_(torch.randn(x.shape, generator=generator))
expected, state = chunked_reference(*last, output_final_state=True)
if which != "twin":
    programs = 2 * heads * batch
    twin = narrowed(attend, "_outputs_kernel") if which == "narrow" else contextlib.nullcontext()
    with interpreted(range(programs - 2, programs), grid=programs), twin:
        output = attend_chunks(q, k, v, width**-0.5).output
    assert relative_rms(output[-1:, :, -1:], expected) <= 0.005
else:
    with interpreted([heads * batch - 1], grid=heads * batch):
        found = naive_states(k, v)
    assert relative_rms(found[-1:, -1:], state) <= 0.005
print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")
"""

STRIDED = """
import sys
import torch
from perf_kernels.index_width import interpreted
from perf_kernels.interpreter import round_as_a_gpu
from perf_kernels.linear_attention.inputs import random_heads
from perf_kernels.linear_attention.attend import attend_chunks
from perf_kernels.linear_attention.launch import LaunchConfig

round_as_a_gpu()
near = random_heads(1, 40, 1, 16)
for stride in map(int, sys.argv[1:]):
    memory = torch.empty(40 * stride + 48, dtype=torch.bfloat16)
    far = [memory.as_strided((1, 40, 1, 16), (0, stride, 0, 1), 16 * i) for i in range(3)]
    for x, y in zip(far, near):
        x.copy_(y)
    for reverse in (False, True):
        options = {"store_final": True, "reverse": reverse, "config": LaunchConfig(16, 16, 3)}
        expected = attend_chunks(*near, 0.25, **options)
        # No grid has so many programs: all run, with the check.
        with interpreted((), grid=-1):
            found = attend_chunks(*far, 0.25, **options)
        assert torch.equal(found.output, expected.output)
        assert torch.equal(found.state, expected.state)
        print(stride, "equal bits")
"""


class TestLinearAttention(IndexWidthTests):
    package = "perf_kernels.linear_attention"
    twin = "naive-8x4096x8x128"
    twin_operations = ("arith.muli", "arith.muli", "tt.addptr", "tt.addptr", "tt.addptr")
    # The sums of states and of keys run through the same kernel.
    kernels_compiled = 4
    program = INTERPRET
    real = wrapping = (FIRST_WRAPPED_SEQUENCE + 1, TOKENS, HEADS, WIDTH)
    small = (2, TOKENS, 2, WIDTH)

    def test_compiled_code_uses_tensor_cores_and_wide_loads(self, kernels: dict[str, Figures]) -> None:
        for name, found in kernels.items():
            assert (found.code.tensor_core > 0) == ("prefix" not in name), name
            assert found.load_width > 15, name

    def test_compile_check_catches_narrowed_kernels(self) -> None:
        kernels = ["_segment_sums_kernel", "_prefix_sums_kernel", "_outputs_kernel"]
        assert caught(self.place, "narrow-1x32768x8x128") == kernels

    def test_interpreter_check_catches_a_narrowed_kernel_past_the_limit(self) -> None:
        done = self.interpret("narrow", self.small)
        assert done.returncode == 0, done.stderr
        done = self.interpret("narrow", self.wrapping)
        assert done.returncode == 1
        assert "int32 overflow detected for operation mul" in done.stderr

    def test_interpreter_check_lets_the_naive_twin_pass_below_the_limit(self) -> None:
        done = self.interpret("twin", self.small)
        assert done.returncode == 0, done.stderr


def test_distant_tokens_interpreted() -> None:
    """A token gives the same bits wherever it lies: 40 tokens far apart, forwards and backwards, in segments."""
    strides = (2**26, 2**28 + 16)
    done = run(STRIDED, *strides, interpret=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{stride} equal bits\n" * 2 for stride in strides)


@few_tokens
@pytest.mark.parametrize("padding", [0, 16, 1000])
def test_bits_do_not_depend_on_strides(padding: int) -> None:
    inputs = random_heads(2, 40, 2, 16, device=DEVICE_TYPE, seed=8)
    config = LaunchConfig(16, 16, 2)
    expected, _ = chunk_linear_attention(*inputs, config=config)
    room = torch.full((3, 2, 41, 3, 16 + padding), torch.nan, dtype=torch.bfloat16, device=DEVICE_TYPE)
    views = [part[:, :40, :2, :16].copy_(x) for part, x in zip(room, inputs, strict=True)]
    found, _ = chunk_linear_attention(*views, config=config)
    assert torch.equal(found, expected)


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(40)
@pytest.mark.isolate
@pytest.mark.parametrize("batch", [FIRST_WRAPPED_SEQUENCE, FIRST_WRAPPED_SEQUENCE + 1, FIRST_WRAPPED_SEQUENCE + 500])
def test_real_shape(batch: int) -> None:
    """Every output of a batch past 2**31 elements."""
    inputs = random_heads(batch, TOKENS, HEADS, WIDTH, device="cuda", seed=9)
    assert inputs[0].numel() >= 2**31
    output, _ = chunk_linear_attention(*inputs)
    torch.cuda.synchronize()
    for start in range(0, batch, 256):
        expected, _ = chunked_reference(*(x[start : start + 256] for x in inputs))
        assert relative_rms(output[start : start + 256], expected) <= 0.005, start


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(60)
@pytest.mark.isolate
@pytest.mark.parametrize("implementation", ["chunk", "fla_chunk"])
def test_long_sequence(implementation: str) -> None:
    """One sequence of 2**31 + 2**20 elements: walked in segments, whose first tokens are checked one by one."""
    from perf_kernels.linear_attention import linear_attention

    if implementation == "fla_chunk":
        pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")
    heads, width = 8, 64
    tokens = (2**31 + 2**20) // (heads * width)
    q, k, v = random_heads(1, tokens, heads, width, device="cuda", seed=10)
    output = linear_attention(q, k, v, implementation=implementation).output
    torch.cuda.synchronize()
    state = None
    for start in range(0, tokens, 2**16):
        part = slice(start, start + 2**16)
        expected, state = chunked_reference(
            q[:, part], k[:, part], v[:, part], initial_state=state, output_final_state=True
        )
        assert relative_rms(output[:, part], expected) <= 0.01, start


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("stride", STRIDES_AROUND)
def test_distant_sequences(stride: int) -> None:
    """A sequence gives the same bits wherever it lies: three this far apart."""
    inputs = random_heads(1, 100, 2, 64, device="cuda", seed=11)
    alone, _ = chunk_linear_attention(*inputs)
    size = inputs[0].numel()
    room = torch.empty(2 * stride + 3 * size, dtype=torch.bfloat16, device="cuda")
    views = [room.as_strided((3, 100, 2, 64), (stride, 128, 64, 1), i * size) for i in range(3)]
    for view, x in zip(views, inputs, strict=True):
        view.copy_(x.expand(3, -1, -1, -1))
    output, _ = chunk_linear_attention(*views)
    assert torch.equal(output, alone.expand(3, -1, -1, -1))
