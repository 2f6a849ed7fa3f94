"""How long does a call take on the device, launch gaps excluded?

The call is captured into a CUDA graph (a HIP graph on ROCm) that repeats it over rotated copies of its inputs, so that
the CPU's launches play no part and the inputs are not in the L2 cache. What cannot be captured runs call by call,
queued behind a blocking kernel, so that the device never waits for the CPU. Imports torch: import it where it is used.

Method after nvbench (``measure_cold``: L2 flush, blocking kernel) and flashinfer (``testing/utils.py``: rotated inputs
in graphs).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from perfgate.measure import sampling
from perfgate.measure.graph import Graph, add_extra, capture, elapsed_s, release_generator, warm_up
from perfgate.measure.unprofiled import unprofiled

MIN_SAMPLES = 10
#: Work done before the first sample, so that the clocks have left their idle state.
WARM_UP_S = 0.02


@dataclass(frozen=True)
class DeviceTiming:
    """Device time of one call, in seconds.

    Args:
        median_s: median over the samples.
        spread: (q3 - q1) / median of the samples.
        samples: seconds per call, one for each replay.
        launch: "graph", or "queue" where capture is impossible.
        cache: "rotated" or "flushed" (cold L2), or "warm".
        calls: calls in one sample.
        result: what a timed call returned, on pristine inputs; Python values in it are those of the capture.
    """

    median_s: float
    spread: float
    samples: tuple[float, ...]
    launch: str
    cache: str
    calls: int
    result: Any = field(repr=False, compare=False)


@unprofiled()
def time_device(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    budget_s: float = 0.25,
    target: float = 0.002,
    cache: str = "cold",
    watch: Callable[[], None] = lambda: None,
) -> DeviceTiming:
    """Time a call on the current device.

    Args:
        fn: the call. Tensors among its arguments are rotated, unless it carries further ones with it.
        args: positional arguments.
        kwargs: keyword arguments.
        budget_s: seconds of sampling.
        target: stop when the 95 % interval of the median is this narrow, relative to it.
        cache: "cold" or "warm" L2.
        watch: called while the device is busy with samples (reads clocks, say).

    Raises:
        SettingError: torch's profiler runs meanwhile.
    """
    kwargs = dict(kwargs or {})
    warm = warm_up(fn, args, kwargs)
    try:
        graph = capture(fn, args, kwargs, warm, cold=cache == "cold")
    except (RuntimeError, torch.OutOfMemoryError):
        # Not capturable (it synchronises, say). An error of the call itself would have shown in the warm-up.
        torch.cuda.synchronize()
        release_generator()
        return _queue(fn, args, kwargs, warm.call_s, budget_s, target, cache == "cold", watch)
    try:
        samples = _sample_graph(graph, budget_s, target, watch)
        return DeviceTiming(
            statistics.median(samples),
            sampling.spread(samples),
            tuple(samples),
            "graph",
            graph.cache,
            graph.calls,
            graph.checked_result() if graph.returns_tensors else warm.result,
        )
    finally:
        graph.close()


def _sample_graph(graph: Graph, budget_s: float, target: float, watch: Callable[[], None]) -> list[float]:
    """Replay until the median is known well enough or the budget is spent; give seconds per call."""
    graph.replay()
    once_s = elapsed_s(graph.replay)
    for _ in range(min(math.ceil(WARM_UP_S / once_s), 1000)):
        graph.replay()
    torch.cuda.synchronize()
    samples: list[float] = []
    batch = max(3, min(20, math.ceil(0.01 / once_s)))
    deadline = time.perf_counter() + budget_s
    while True:
        marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        _block(20e-6 * batch + 50e-6)
        for _ in range(batch):
            graph.evict()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            marks.append((start, end))
        watch()
        torch.cuda.synchronize()
        samples += [start.elapsed_time(end) * 1e-3 / graph.calls for start, end in marks]
        if sampling.enough(samples, target, MIN_SAMPLES) or (
            time.perf_counter() > deadline and len(samples) >= MIN_SAMPLES
        ):
            return samples


def _block(seconds: float) -> None:
    """Keep the device busy, so that what is queued meanwhile runs without waiting for the CPU."""
    torch.cuda._sleep(int(seconds * 1.5e9))


def _queue(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    estimate_s: float,
    budget_s: float,
    target: float,
    cold: bool,
    watch: Callable[[], None],
) -> DeviceTiming:
    """Time call by call, each queued behind a blocking kernel."""
    l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    flush = torch.ones(2 * l2_bytes // 4, dtype=torch.int32, device="cuda") if cold else None
    # How long the CPU needs to queue one call is how long the device has to be kept busy.
    begin = time.perf_counter()
    result = fn(*args, **kwargs)
    launch_s = time.perf_counter() - begin
    torch.cuda.synchronize()
    samples: list[float] = []
    deadline = time.perf_counter() + budget_s
    batch = max(3, min(20, math.ceil(0.01 / max(estimate_s, launch_s))))
    while True:
        marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        for _ in range(batch):
            if flush is not None:
                flush.max()
            _block(1.5 * launch_s + 20e-6)
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = fn(*args, **kwargs)
            add_extra(fn, 1)
            end.record()
            marks.append((start, end))
        watch()
        torch.cuda.synchronize()
        samples += [start.elapsed_time(end) * 1e-3 for start, end in marks]
        if sampling.enough(samples, target, MIN_SAMPLES) or (
            time.perf_counter() > deadline and len(samples) >= MIN_SAMPLES
        ):
            break
    return DeviceTiming(
        statistics.median(samples),
        sampling.spread(samples),
        tuple(samples),
        "queue",
        "flushed" if cold else "warm",
        1,
        result,
    )
