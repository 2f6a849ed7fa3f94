"""How does a call get slower by 1 %? Real extra work beside it, inside what is timed, in a process of a calibration.

*On the device clock* a spinning kernel is captured into the CUDA graph behind the calls. One for all calls of a replay:
a kernel more costs about 1 us whatever it does, which is 5 % of a call of 20 us, but 1 % of a replay of 500 us is 5 us.
What that kernel costs beside its cycles is measured once a process, and taken off its cycles.

*On the wall clock of a GPU* the same kernel runs behind each call, and the CPU spins as long: the one shows where the
device is what a call waits for, the other where its launches are.

*On a CPU* bytecode spins in the calling thread. Its length is counted in the core loops that the machine's speed is
measured with (:mod:`perfgate.measure.reference_speed`), not in seconds, so that a core that slows down slows it too.

How much slower the call really became is known from the process itself: it measures the case without extra work first.
Imports torch only where the call runs on a GPU.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from perfgate.measure.reference_speed import CORE_ITERATIONS, core_loop

_SHORT, _LONG = 10_000, 50_000
_REPLAYS = 40
_KERNELS = 8


class DeviceExtra:
    """A call as it is, and a spinning kernel that a sample of it gets besides.

    Args:
        fn: the call.
        seconds: device time of the extra work for each call of a sample.
    """

    def __init__(self, fn: Callable[..., Any], seconds: float) -> None:
        # The timer looks behind wrappers for tensors that a function carries with it.
        self.__wrapped__ = fn
        self._seconds = seconds
        #: Why nothing was added, if that was so.
        self.problem = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.__wrapped__(*args, **kwargs)

    def perfgate_extra(self, calls: int) -> None:
        """Queue the extra work of so many calls."""
        import torch

        cost = spin_cost(torch.cuda.current_device())
        cycles = round((self._seconds * calls - cost.kernel_s) / cost.cycle_s)
        if cycles <= 0:
            added, least = self._seconds * calls * 1e6, cost.kernel_s * 1e6
            self.problem = f"{added:.2f} us of extra work cannot be added: a kernel that does nothing costs {least:.2f}"
        else:
            torch.cuda._sleep(cycles)


class SpinCost(NamedTuple):
    """What a spinning kernel behind others costs, in seconds: itself, and each of its cycles."""

    kernel_s: float
    cycle_s: float


@functools.cache
def spin_cost(device: int) -> SpinCost:
    """Measure what a spinning kernel between others costs in a graph, once a process and device."""
    import torch

    numbers = torch.ones(8 << 20, device=f"cuda:{device}")
    graphs = []
    for cycles in (0, _SHORT, _LONG):
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            for _ in range(_KERNELS):
                numbers.mul_(1.0)
                if cycles:
                    torch.cuda._sleep(cycles)
        graphs.append(graph)
    taken: list[list[float]] = [[], [], []]
    for _ in range(_REPLAYS):
        for graph, seconds in zip(graphs, taken, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            seconds.append(start.elapsed_time(end) * 1e-3)
    plain, short, long = map(statistics.median, taken)
    for graph in graphs:
        graph.reset()
    cycle_s = (long - short) / (_LONG - _SHORT) / _KERNELS
    return SpinCost(max((short - plain) / _KERNELS - _SHORT * cycle_s, 0.0), cycle_s)


def on_both(fn: Callable[[], Any], seconds: float) -> Callable[[], Any]:
    """Give a call that keeps the device and the calling thread busy for so long after it."""
    import torch

    cycles = round(seconds / spin_cost(torch.cuda.current_device()).cycle_s)

    def call() -> Any:
        result = fn()
        end = time.perf_counter() + seconds
        torch.cuda._sleep(cycles)
        while time.perf_counter() < end:
            pass
        return result

    return call


def on_cpu(fn: Callable[[], Any], loops: float) -> Callable[[], Any]:
    """Give a call that is followed by so many core loops of bytecode."""
    iterations = max(round(loops * CORE_ITERATIONS - _overhead()), 0)

    def call() -> Any:
        result = fn()
        spin(iterations)
        return result

    return call


def spin(iterations: int) -> int:
    """Do as many iterations of bytecode as asked for, in stretches as long as a core loop."""
    whole, rest = divmod(iterations, CORE_ITERATIONS)
    total = 0
    for _ in range(whole):
        total += core_loop()
    for number in range(rest):
        total += number * number & 7
    return total


@functools.cache
def _overhead() -> float:
    """Give what calling :func:`spin` costs by itself, in iterations."""

    def least(work: Callable[[], Any], times: int) -> float:
        taken = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(times):
                work()
            taken.append((time.perf_counter() - start) / times)
        return min(taken)

    return least(lambda: spin(0), 2000) / least(core_loop, 20) * CORE_ITERATIONS


def holding(fn: Callable[[], Any], amount: int, *, device: bool) -> Callable[[], Any]:
    """Give a call during which so many bytes more are held."""

    def call() -> Any:
        held: Any
        if device:
            import torch

            held = torch.empty(amount, dtype=torch.uint8, device="cuda")
        else:
            held = b"x" * amount
        result = fn()
        del held
        return result

    return call
