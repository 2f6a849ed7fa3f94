"""Weights of Qwen2.5-7B's widest layer made 2:L sparse, slid and validated: offline, but a model has hundreds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

SEED = 21
GROUPS = [4, 6, 8, 10]
#: The goal, in seconds for one layer of 18944 x 3584 bf16 weights; on a CPU with two cores.
CPU_GOAL_S, GPU_GOAL_S = 2.0, 0.05
#: Calls on a CPU, and seconds after which there is no further one.
CPU_CALLS, CPU_ENOUGH_S = 8, 30.0
#: Cores that others may use while a call counts against the goal: what a machine at rest does beside.
OTHERS = 0.1


@pytest.mark.sm80
@pytest.mark.perf(time="3%", memory="0", clock="device")
@pytest.mark.parametrize("group", GROUPS)
def test_convert_weight(benchmark: Any, torch: ModuleType, group: int) -> None:
    weight, convert, bytes_moved = prepare(torch, "cuda", group)
    benchmark.work(bytes=bytes_moved(*weight.shape, group, weight.element_size()))

    slid = benchmark(convert, weight, group)

    assert_converted(torch, weight, slid, group)


@pytest.mark.sm80
@pytest.mark.parametrize("group", GROUPS)
def test_convert_weight_within_the_goal(torch: ModuleType, group: int) -> None:
    """By the wall clock, with the checks' waits for the GPU: what a converter sees."""
    weight, convert, _ = prepare(torch, "cuda", group)

    def whole() -> None:
        convert(weight, group)
        torch.cuda.synchronize()

    best_s = min(timed(whole) for _ in range(5))
    assert best_s <= GPU_GOAL_S, f"{best_s * 1e3:.1f} ms, the goal is {GPU_GOAL_S * 1e3:.0f} ms"


# The peak of its blocks is 34 to 40 MiB in one process and another.
@pytest.mark.cpu
@pytest.mark.perf(time="5%", memory="25%", threads=1)
def test_convert_weight_cpu(benchmark: Any, torch: ModuleType) -> None:
    """A sixteenth of the layer on one thread."""
    weight, convert, bytes_moved = prepare(torch, "cpu", 8, rows=1184)
    benchmark.work(bytes=bytes_moved(*weight.shape, 8, weight.element_size()))

    slid = benchmark(convert, weight, 8)

    assert_converted(torch, weight, slid, 8)


@pytest.mark.cpu
def test_convert_weight_cpu_within_the_goal(torch: ModuleType) -> None:
    """By the wall clock, on all threads that torch takes: what a converter sees.

    One call within the goal reaches it. Calls beyond it miss it where nobody else used the cores meanwhile: two threads
    that share theirs wait for each other many times as long. Where somebody did each time, the outcome is a skip.
    """
    weight, convert, _ = prepare(torch, "cpu", 8)
    calls: list[tuple[float, float]] = []
    while len(calls) < CPU_CALLS and sum(seconds for seconds, _ in calls) < CPU_ENOUGH_S:
        calls.append(watched(lambda: convert(weight, 8)))
        if calls[-1][0] <= CPU_GOAL_S:
            return
    alone = [(seconds, others) for seconds, others in calls if others <= OTHERS]
    best_s, others = min(alone or calls)
    told = f"{best_s:.2f} s while others used {others:.1f} cores, the goal is {CPU_GOAL_S:.0f} s on two cores"
    if not alone:
        pytest.skip(f"inconclusive: {told}")
    pytest.fail(told)


@pytest.mark.sm80
@pytest.mark.perf(time="3%", memory="0", clock="device")
def test_compress(benchmark: Any, torch: ModuleType) -> None:
    """The compression of cuSPARSELt alone, of int8 weights slid for 2:8."""
    if not torch.backends.cusparselt.is_available():
        pytest.skip("this torch has no cuSPARSELt: pip install a build for CUDA")
    weight, convert, _ = prepare(torch, "cuda", 8)
    slid = convert((weight * 20).to(torch.int8), 8)
    benchmark.work(bytes=slid.nbytes + slid.nbytes // 2 + slid.numel() // 4)

    compressed = benchmark(torch._cslt_compress, slid)

    x = torch.randint(-8, 8, (64, slid.shape[1]), dtype=torch.int8, device="cuda")
    y = torch._cslt_sparse_mm(compressed, x.t(), out_dtype=torch.int32).t()
    assert torch.equal(y, torch._int_mm(x, slid.t()))


def prepare(torch: ModuleType, device: str, group: int, rows: int | None = None) -> tuple[Any, Any, Any]:
    """Give weights on a device, the converter, warmed up, and what counts its bytes."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.sparse_weights import bytes_moved, convert_weight
    from perf_kernels.sparse_weights.inputs import SHAPE, random_weight

    weight = random_weight(rows or SHAPE[0], SHAPE[1], torch.bfloat16, device, SEED)
    # The table of patterns is made once.
    convert_weight(weight[:1], group)
    return weight, convert_weight, bytes_moved


def timed(call: Callable[[], object]) -> float:
    """Give the seconds of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def watched(call: Callable[[], object]) -> tuple[float, float]:
    """Give the seconds of a call, and how many cores others used or took meanwhile; infinity if nobody knows."""
    from perfgate.measure.cpu_conditions import CpuConditions

    with CpuConditions() as conditions:
        call()
    seen = conditions.report()
    return seen["cpu_elapsed_s"], seen.get("cpu_others", math.inf) + seen.get("cpu_stolen", 0.0)


def assert_converted(torch: ModuleType, weight: Any, slid: Any, group: int) -> None:
    """Compare the first and last rows with the definition, and all rows by what they keep and where."""
    from perf_kernels.sparse_weights import check_two_in_four
    from perf_kernels.sparse_weights.reference import prune_weight_reference, slide_weight_reference

    for rows in (slice(0, 1), slice(-1, None)):
        expected = slide_weight_reference(prune_weight_reference(weight[rows].cpu(), group), group)
        assert torch.equal(slid[rows].cpu(), expected)
    check_two_in_four(slid)
    groups = -(-weight.shape[1] // group)
    padded = torch.nn.functional.pad(weight, (0, groups * group - weight.shape[1])).view(len(weight), groups, group)
    kept = padded.float().abs().sort(dim=2).values[..., 2:].double().sum(dim=(1, 2))
    torch.testing.assert_close(slid.double().abs().sum(dim=1), kept, rtol=1e-12, atol=0)
