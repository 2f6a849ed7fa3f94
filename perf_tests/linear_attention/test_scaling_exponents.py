"""How do time and memory of each mixing grow with the length of a sequence? Exponents are fitted and gated.

Softmax compares every token with every other: its time grows with the square whatever the backend. What flash and
efficient attention save is memory. Linear attention and the gated delta rule are linear in both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

#: Where the largest term rules: below, GPUs are not full and calls of a CPU are mostly overhead. The math backend holds
#: all scores: four times the memory at twice the length.
LENGTHS = {
    "cuda": {
        "math": (1024, 2048, 4096, 8192),
        "softmax": (2048, 4096, 8192, 16384),
        "other": (4096, 8192, 16384, 32768),
    },
    "cpu": {"math": (512, 1024, 2048), "softmax": (512, 1024, 2048), "other": (1024, 2048, 4096)},
}
#: Batch, heads, width of a head.
SIZES = {"cuda": (2, 16, 64), "cpu": (1, 2, 32)}
#: Operation -> exponents of time and memory.
EXPECTED = {
    "softmax-math": (2, 2),
    "softmax-efficient": (2, 1),
    "softmax-flash": (2, 1),
    "linear-chunk": (1, 1),
    "linear-fla_chunk": (1, 1),
    "linear-fla_fused_chunk": (1, 1),
    "linear-naive_chunk": (1, 1),
    "gated_deltanet-fla_chunk": (1, 1),
    "gated_deltanet-naive_chunk": (1, 1),
}
ON_GPU = [name for name in EXPECTED if "naive" not in name]
ON_CPU = ["softmax-math", "softmax-flash", "linear-naive_chunk", "gated_deltanet-naive_chunk"]
#: By how much a fitted exponent may be off: fixed costs pull it down. Times of calls as short as these on a CPU are
#: mostly such costs: they are reported.
ALLOWED_TIME = 0.3
ALLOWED_MEMORY = 0.1


@pytest.mark.parametrize(
    ("device", "name"),
    [
        *(pytest.param("cuda", name, id=f"gpu-{name}", marks=pytest.mark.sm80) for name in ON_GPU),
        *(pytest.param("cpu", name, id=f"cpu-{name}", marks=pytest.mark.cpu) for name in ON_CPU),
    ],
)
def test_exponents(benchmark: Any, torch: ModuleType, device: str, name: str) -> None:
    from perf_workloads.attention.statistics import exponent

    if "fla_" in name:
        pytest.importorskip("fla", reason="fla is not installed: pip install fla-core einops")
    kind, _, implementation = name.partition("-")
    rule = implementation if implementation == "math" else kind if kind == "softmax" else "other"
    lengths = LENGTHS[device][rule]
    verify(name, device, lengths[0])
    benchmark.note("implementation", implementation)
    benchmark.profile(called(name, device, lengths[-1]))
    figures = []
    for tokens in lengths:
        benchmark.progress(f"{tokens} tokens")
        figures.append(weigh(name, device, tokens))
    for tokens, (seconds, peak) in zip(lengths, figures, strict=True):
        benchmark.report(f"time_{tokens}", seconds, unit="s")
        benchmark.report(f"memory_{tokens}", peak, unit="B")
    time_exponent = exponent(lengths, [seconds for seconds, _ in figures])
    memory_exponent = exponent(lengths, [memory for _, memory in figures])
    time, memory = EXPECTED[name]
    if device == "cuda":
        benchmark.record("time_exponent", time_exponent, limit="10%", noise="2%")
        assert abs(time_exponent - time) <= ALLOWED_TIME
    else:
        benchmark.report("time_exponent", time_exponent)
    # On a CPU bytes are counted one by one; a GPU's peak has what earlier calls left in libraries.
    benchmark.record("memory_exponent", memory_exponent, limit="20%", noise="1%" if device == "cuda" else "0")
    assert abs(memory_exponent - memory) <= ALLOWED_MEMORY


def verify(name: str, device: str, tokens: int) -> None:
    """Check what computes an operation; those of perf_kernels run what they are told, or raise."""
    from perf_workloads.attention.operations import operation
    from perf_workloads.attention.verify import assert_sdpa_backend

    kind, _, implementation = name.partition("-")
    if kind == "softmax":
        call, inputs = operation(name, (1, tokens, 1, SIZES[device][2]), device)
        assert_sdpa_backend(lambda: call(*inputs), implementation)


def called(name: str, device: str, tokens: int) -> Callable[[], Any]:
    """Give a call of an operation; its inputs are drawn when it is called first."""
    from perf_workloads.attention.operations import operation

    batch, heads, width = SIZES[device]
    drawn = functools.cache(lambda: operation(name, (batch, tokens, heads, width), device))

    def call() -> Any:
        function, inputs = drawn()
        return function(*inputs)

    return call


def weigh(name: str, device: str, tokens: int) -> tuple[float, int]:
    """Give seconds and bytes of one call for so many tokens."""
    from perf_workloads.attention.operations import operation

    batch, heads, width = SIZES[device]
    call, inputs = operation(name, (batch, tokens, heads, width), device)
    if device == "cuda":
        from perfgate.measure.device import time_device
        from perfgate.measure.device_memory import peak_memory

        seconds = time_device(call, inputs, budget_s=0.05).median_s
        return seconds, peak_memory(lambda: call(*inputs)).peak_bytes
    from perf_workloads.attention.allocations import count
    from perfgate.measure.wall import time_wall

    seconds = time_wall(lambda: call(*inputs), budget_s=0.05).median_s
    return seconds, count(lambda: call(*inputs)).peak
