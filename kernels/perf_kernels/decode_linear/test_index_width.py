"""Are row offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.decode_linear import decode_linear_reference, ops
from perf_kernels.decode_linear.inputs import Format, random_tokens, random_weights
from perf_kernels.index_width_tests import caught
from perf_kernels.target import DEVICE_TYPE
from perf_kernels.undeclared_tests import any_parts_of_a_layer, around_int32, narrow_layer
from perfgate.static.figures import Figures
from perfgate.static.pool import compile_all, shared

#: Rows so wide that weights of one byte pass 2**31 with few of them: row 16,384 starts there.
OUTPUTS, WIDTH = 16_400, 2**17
#: Columns of bytes around it: the row at 2**31 starts there, or 32 elements before.
WIDTHS_AROUND = (WIDTH - 16, WIDTH, WIDTH + 16)
#: Rows that repeat, so that the reference is small; columns of an int32 of eight; room on each side of the outputs.
REPEATED, WORD, ROOM = 16, 8, 16

PLACE = "perf_kernels.decode_linear.specialisations"
TWIN = "naive-head"

INTERPRET = """
import contextlib, resource, sys
import torch
from perf_kernels.decode_linear import ops
from perf_kernels.decode_linear import LaunchConfig, decode_linear, decode_linear_reference
from perf_kernels.decode_linear.naive_twin import naive_kernel
from perf_kernels.index_width import interpreted
from perf_kernels.narrowed import narrowed

which, outputs, width = sys.argv[1], *map(int, sys.argv[2:])
generator = torch.Generator().manual_seed(0)


def check(outputs, width, tokens, programs):
    # Memory is committed only where it is touched: 2 GiB are reserved, the last rows are used.
    values = torch.empty(outputs, width, dtype=torch.int8)
    values[-16:] = torch.randint(-3, 4, (16, width), dtype=torch.int8, generator=generator)
    x = torch.randint(-3, 4, (tokens, width), generator=generator).float()
    twin = narrowed(ops, "_batch_kernel") if which == "narrow" else contextlib.nullcontext()
    with interpreted([programs - 1], grid=programs), twin:
        if which != "twin":
            y = decode_linear(x, values, torch.ones(outputs), config=LaunchConfig(rows=16, tile=4096))
        else:
            y = torch.empty(tokens, outputs)
            naive_kernel[(outputs,)](x[0], values, y, width, 4096)
    last = slice(-16 if which != "twin" else -1, None)
    expected = decode_linear_reference(x, values[last].contiguous(), torch.ones(len(values[last])))
    assert torch.equal(y[:, last].double(), expected)
    print("equals the reference", tokens, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")


if which == "kernel":
    check(outputs, width, 1, outputs // 16)
    check(outputs, width, 2, outputs // 16)
elif which == "narrow":
    check(32, 512, 2, 2)
    check(outputs, width, 2, outputs // 16)
else:
    # Below the limit it must pass: otherwise it might be caught for another reason than its offsets.
    check(32, 512, 1, 32)
    check(outputs, width, 1, outputs)
"""


@pytest.fixture(scope="module")
def kernels() -> dict[str, Figures]:
    """Compile every launch for one target, in another process: in this one kernels may be interpreted.

    The static gate compiles those of ``LAUNCHES`` for all targets, and those of ``VENDOR_LAUNCHES`` for two.
    """
    answers = {
        found: answer
        for place in (PLACE, f"{PLACE}:VENDOR_LAUNCHES", f"{PLACE}:MORE_LAUNCHES")
        for found, answer in compile_all(place, list(shared().launches(place).code), ["sm90"]).items()
    }
    assert {where: answer.reason for where, answer in answers.items() if answer.status != "compiled"} == {}
    return {" ".join([*where, kernel.name]): kernel for where, answer in answers.items() for kernel in answer.kernels}


@pytest.fixture(scope="module")
def twin() -> Figures:
    """Compile the deliberate mistake."""
    return compile_all(f"{PLACE}:TWIN_LAUNCHES", [TWIN], ["sm90"])[TWIN, "sm90"].kernels[0]


def test_compiled_offsets_are_wide(kernels: dict[str, Figures]) -> None:
    assert {name: found.narrow_offsets for name, found in kernels.items() if found.narrow_offsets} == {}


def test_compiled_code_does_not_spill(kernels: dict[str, Figures]) -> None:
    assert {name: found.code.spills for name, found in kernels.items() if found.code.spills} == {}


def test_one_token_waits_for_no_other_warp(kernels: dict[str, Figures]) -> None:
    """Programs of one warp, products in fp32; only packed weights exchange something within the warp."""
    for name, found in kernels.items():
        if "_token_kernel" in name:
            assert found.code.tensor_core == 0, name
            assert found.code.barriers == 0 or name.startswith("int4"), name


def test_several_tokens_are_on_tensor_cores(kernels: dict[str, Figures]) -> None:
    assert [name for name, found in kernels.items() if "_batch_kernel" in name and found.code.tensor_core == 0] == []


def test_loads_are_wide(kernels: dict[str, Figures]) -> None:
    """Of 16 bytes, and of 8 for weights of 8 bits, so that a thread meets as many of them as it loads activations.

    Of packed weights, activations are loaded 8 bytes at a time, in the smaller last tile 4, and scales are 4.
    """
    for name, found in kernels.items():
        if "_token_kernel" in name and " sm90 " in name:
            loads = found.code.loads
            assert loads[16] + loads[8] >= 8, name
            if not name.startswith(("int8", "fp8")):
                assert loads[8] <= (16 if name.startswith("int4") else 0), name
            assert sum(loads.values()) - loads[16] - loads[8] <= (28 if name.startswith("int4") else 2), name


def test_compile_check_catches_the_naive_twin(twin: Figures) -> None:
    found = [line.split(" = ")[1].split(" ")[0] for line in twin.narrow_offsets]
    assert "tt.addptr" in found
    assert caught(PLACE, "narrow-gate_up-8") == ["_batch_kernel"]


def test_interpreted_at_the_largest_shape() -> None:
    assert (OUTPUTS - 16) * WIDTH > 2**31 - 1
    done = run(INTERPRET, "kernel", OUTPUTS, WIDTH, interpret=True)
    assert done.returncode == 0, done.stderr
    # Resident memory: torch alone takes 1 GiB where it is built for CUDA.
    assert done.stdout.replace("1 GiB", "0 GiB") == "equals the reference 1 0 GiB\nequals the reference 2 0 GiB\n"


@pytest.mark.parametrize(("which", "tokens"), [("twin", 1), ("narrow", 2)])
def test_interpreter_check_catches_the_naive_twin_past_the_limit(which: str, tokens: int) -> None:
    done = run(INTERPRET, which, OUTPUTS, WIDTH, interpret=True)
    assert done.returncode == 1
    assert done.stdout.replace("1 GiB", "0 GiB") == f"equals the reference {tokens} 0 GiB\n"
    assert "int32 overflow detected for operation mul" in done.stderr


def check_every_output(form: Format, tokens: int, outputs: int, columns: int, before: int = 0) -> None:
    """Multiply by weights of so many columns as they are stored, ``before`` elements into their memory.

    Every output is compared, and what lies on both sides of the outputs must stay as it is.
    """
    width = columns * WORD if form == "int4" else columns
    rows, scale = random_weights(REPEATED, width, form, torch.float32, DEVICE_TYPE, seed=1)
    assert scale is not None
    times = outputs // REPEATED
    values = torch.empty(before + outputs * columns, dtype=rows.dtype, device=DEVICE_TYPE)[before:]
    values.view(times, REPEATED, columns).copy_(rows.expand(times, -1, -1))
    x = random_tokens(tokens, width, torch.float32, DEVICE_TYPE, seed=2)
    room = torch.full((ROOM + tokens * outputs + ROOM,), torch.nan, device=DEVICE_TYPE)
    y = room[ROOM:-ROOM].view(tokens, outputs)
    scales = scale.repeat(times, *([1] * (scale.ndim - 1)))
    ops._launch(x, values.view(outputs, columns), scales, None, None, y, 1e-6, False, None, None)
    assert room[:ROOM].isnan().all()
    assert room[-ROOM:].isnan().all()
    repeated = y.view(tokens, times, REPEATED)
    assert torch.equal(repeated, repeated[:, :1].expand_as(repeated))
    expected = decode_linear_reference(x, rows, scale).float()
    torch.testing.assert_close(repeated[:, 0], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@any_parts_of_a_layer
@narrow_layer
@pytest.mark.parametrize("tokens", [1, 3, 33])
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_small_shape(form: Format, tokens: int) -> None:
    """What the large ones do, anywhere; 33 tokens are two programs."""
    check_every_output(form, tokens, outputs=3 * REPEATED, columns=128, before=48)


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("tokens", [1, 3, 33])
@pytest.mark.parametrize("columns", WIDTHS_AROUND)
def test_rows_around_the_limit(columns: int, tokens: int) -> None:
    assert (OUTPUTS - 1) * columns > 2**31
    check_every_output("int8", tokens, OUTPUTS, columns)


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("tokens", [1, 3])
def test_packed_rows_past_the_limit(tokens: int) -> None:
    check_every_output("int4", tokens, OUTPUTS, WIDTH)


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("tokens", [1, 3])
def test_weights_that_start_past_the_limit(tokens: int) -> None:
    check_every_output("int8", tokens, OUTPUTS, WIDTH, before=2**31 + 16)
