"""Are offsets 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.hbv import hbv, launch_config
from perf_kernels.hbv.inputs import published_inputs
from perf_kernels.index_width_tests import caught
from perf_kernels.undeclared_tests import around_int32
from perfgate.static.figures import Figures
from perfgate.static.pool import compile_all, shared

#: Days x basins passes 2**31 on the last day but one.
DAYS, BASINS = 34, 2**26
PLACE = "perf_kernels.hbv.specialisations"
TWIN = "forward-32-bit"

INTERPRET = """
import contextlib, resource, sys
import torch
from perf_kernels.hbv import kernel
from perf_kernels.hbv import PARAMETERS, hbv, hbv_reference
from perf_kernels.hbv.inputs import published_inputs
from perf_kernels.hbv.kernel import launch_backward, launch_forward
from perf_kernels.hbv.naive_twin import naive_hbv
from perf_kernels.index_width import interpreted
from perf_kernels.narrowed import narrowed

which, days, basins = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# Memory is committed only where it is touched: each series reserves 9 GB, the last basins are used.
forcings = [torch.empty(days, basins) for _ in range(3)]
parameters = torch.empty(len(PARAMETERS), basins)
few = published_inputs(days, 32)
last = slice(basins - 32, basins)
for tensor, values in zip((*forcings, parameters), few):
    tensor[:, last] = values
programs = basins // 32
twin = narrowed(kernel, "_backward_kernel") if which == "narrow" else contextlib.nullcontext()
with interpreted(range(programs - 1, programs), grid=programs), twin:
    if which == "forward":
        got = hbv(*forcings, parameters)[0][:, last]
    elif which == "twin":
        got = naive_hbv(*forcings, parameters)[:, last]
    else:
        q, _, soil, checkpoint = launch_forward(*forcings, parameters, None, smooth=False, save=True)
        one = torch.ones(()).expand(days, basins)
        saved = (*forcings, parameters, soil, checkpoint)
        got = launch_backward(*saved, one, None, smooth=False, forcings=False)[0][:, last]
expected, _ = hbv_reference(*few[:3], few.parameters.requires_grad_())
if which in ("backward", "narrow"):
    expected, = torch.autograd.grad(expected.sum(), few.parameters)
torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")
"""


@pytest.fixture(scope="module")
def kernels() -> dict[str, Figures]:
    """Compile every launch of the kernels, in another process: in this one they may be interpreted."""
    return {
        launch: answer.kernels[0]
        for place in (PLACE, f"{PLACE}:VENDOR_LAUNCHES", f"{PLACE}:MORE_LAUNCHES")
        for (launch, _), answer in compile_all(place, list(shared().launches(place).code), ["sm90"]).items()
    }


def test_compiled_offsets_are_wide(kernels: dict[str, Figures]) -> None:
    assert len(kernels) == 7
    assert {name: found.narrow_offsets for name, found in kernels.items() if found.narrow_offsets} == {}


def test_compiled_code_does_not_spill(kernels: dict[str, Figures]) -> None:
    assert {name: found.code.spills for name, found in kernels.items() if found.code.spills} == {}


def test_compile_check_catches_the_naive_twin() -> None:
    (answer,) = compile_all(f"{PLACE}:TWIN_LAUNCHES", [TWIN], ["sm90"]).values()
    found = {line.split(" = ")[1].split(" ")[0] for line in answer.kernels[0].narrow_offsets}
    # The last of them is a day times the number of basins: the counter of a loop times a stride.
    assert found == {"tt.addptr", "arith.muli"}
    assert caught(PLACE, "backward-32-bit") == ["_backward_kernel"]


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_interpreted_at_a_large_shape(which: str) -> None:
    assert (DAYS - 2) * BASINS == 2**31
    done = run(INTERPRET, which, DAYS, BASINS, interpret=True)
    assert done.returncode == 0, done.stderr
    # Resident memory: the series are 36 GB of address space and more.
    assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n")


@pytest.mark.parametrize("which", ["twin", "narrow"])
def test_interpreter_check_catches_the_naive_twin(which: str) -> None:
    done = run(INTERPRET, which, DAYS, BASINS, interpret=True)
    assert done.returncode == 1
    assert "int32 overflow detected for operation mul" in done.stderr


@pytest.mark.parametrize("which", ["twin", "narrow"])
def test_interpreter_check_lets_the_naive_twin_pass_below_the_limit(which: str) -> None:
    # Otherwise the twin might be caught for another reason than its offsets.
    done = run(INTERPRET, which, 4, 64, interpret=True)
    assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n"), done.stderr


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(64)
@pytest.mark.isolate(timeout=300)
@pytest.mark.parametrize("basins", [2**26 - 1, 2**26, 2**26 + 1])
def test_real_shape(basins: int) -> None:
    """Basins repeat every 4096: all must give the bits that 4096 alone give, and the same gradients.

    A series takes 9 GB. One stands for all three forcings (water, degrees and evaporation between 0 and 5), so that
    with the discharge and what is kept for the backward pass it is 50 GB: of a process of its own, beside others.
    """
    generator = torch.Generator().manual_seed(0)
    few = (5 * torch.rand(DAYS, 4096, generator=generator)).cuda()
    of_few = published_inputs(1, 4096, "cuda").parameters.requires_grad_()
    many, of_many = repeated(few, basins), repeated(of_few.detach(), basins).requires_grad_()

    # The same for both: another configuration may join multiplications and additions otherwise.
    config = launch_config(basins, DAYS, training=True, backward=True)
    alone, _ = hbv(few, few, few, of_few, config=config)
    (expected,) = torch.autograd.grad(alone.sum(), of_few)
    q, _ = hbv(many, many, many, of_many, config=config)
    assert repeats(q.detach(), alone.detach())
    (gradient,) = torch.autograd.grad(q.sum(), of_many)

    assert repeats(gradient, expected)


def repeated(few: torch.Tensor, basins: int) -> torch.Tensor:
    """Repeat the columns of ``few`` up to so many basins, without a second copy on the way."""
    many = few.new_empty(few.shape[0], basins)
    for start in range(0, basins, few.shape[1]):
        part = many[:, start : start + few.shape[1]]
        part.copy_(few[:, : part.shape[1]])
    return many


def repeats(many: torch.Tensor, few: torch.Tensor) -> bool:
    """Whether the columns of ``many`` are those of ``few`` over and over."""
    parts = (many[:, start : start + few.shape[1]] for start in range(0, many.shape[1], few.shape[1]))
    return all(torch.equal(part, few[:, : part.shape[1]]) for part in parts)
