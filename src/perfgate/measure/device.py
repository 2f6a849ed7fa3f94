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
from torch.utils import _pytree as pytree

from perfgate.measure import sampling

#: A graph holds so many calls that its replay takes about this long. Starting it costs some 3 us on an H200, which is
#: part of every sample: 0.6 % at this length, and the same from process to process as long as the calls are.
REPLAY_S = 500e-6
MAX_CALLS = 256
MIN_SAMPLES = 10
#: Work done before the first sample, so that the clocks have left their idle state.
WARM_UP_S = 0.02
#: Inputs are rotated over this many times the size of the L2 cache.
L2_TIMES = 3
#: Share of the free memory that copies of inputs and outputs may take.
MEMORY_SHARE = 0.25


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
        result: what a timed call returned, on pristine inputs.
    """

    median_s: float
    spread: float
    samples: tuple[float, ...]
    launch: str
    cache: str
    calls: int
    result: Any = field(repr=False, compare=False)


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
        fn: the call; tensors among its arguments are rotated, tensors it closes over are not.
        args: positional arguments.
        kwargs: keyword arguments.
        budget_s: seconds of sampling.
        target: stop when the 95 % interval of the median is this narrow, relative to it.
        cache: "cold" or "warm" L2.
        watch: called while the device is busy with samples (reads clocks, say).
    """
    kwargs = dict(kwargs or {})
    estimate_s, result, fresh_bytes = _warm_up(fn, args, kwargs)
    try:
        graph = _capture(fn, args, kwargs, estimate_s, fresh_bytes, cold=cache == "cold")
    except (RuntimeError, torch.OutOfMemoryError):
        # Not capturable (it synchronises, say). An error of the call itself would have shown in the warm-up.
        torch.cuda.synchronize()
        return _queue(fn, args, kwargs, estimate_s, budget_s, target, cache == "cold", watch)
    try:
        samples = _sample_graph(graph, budget_s, target, watch)
        return DeviceTiming(
            statistics.median(samples),
            sampling.spread(samples),
            tuple(samples),
            "graph",
            graph.cache,
            graph.calls,
            graph.checked_result() if graph.returns_tensors else result,
        )
    finally:
        graph.close()


def _warm_up(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[float, Any, int]:
    """Call twice, the first call compiles and tunes; give one call's device time, its result and its new bytes."""
    fn(*args, **kwargs)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    result = fn(*args, **kwargs)
    end.record()
    torch.cuda.synchronize()
    return max(start.elapsed_time(end) * 1e-3, 1e-6), result, max(torch.cuda.memory_allocated() - before, 0)


def _tensors(tree: Any) -> list[torch.Tensor]:
    """Give the device tensors in nested arguments or results."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.is_cuda]


def _rotatable(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether arguments can be replaced by copies without changing what the call does."""
    return bool(tensors) and not any(tensor.requires_grad or tensor.grad_fn is not None for tensor in tensors)


class _Copy:
    """Copies of storages, and the arguments rebuilt on top of them; views that share memory keep sharing it."""

    def __init__(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self._storages: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.args, self.kwargs = pytree.tree_map(self._replace, (tuple(args), kwargs))

    def _replace(self, leaf: Any) -> Any:
        if not (isinstance(leaf, torch.Tensor) and leaf.is_cuda):
            return leaf
        storage = leaf.untyped_storage()
        if storage.data_ptr() not in self._storages:
            original = torch.empty(0, dtype=torch.uint8, device=leaf.device).set_(storage)
            self._storages[storage.data_ptr()] = (original, original.clone())
        copied = self._storages[storage.data_ptr()][1].untyped_storage()
        view = torch.empty(0, dtype=leaf.dtype, device=leaf.device)
        return view.set_(copied, leaf.storage_offset(), leaf.size(), leaf.stride())

    def restore(self) -> None:
        """Make the copies equal to the originals again."""
        for original, copied in self._storages.values():
            copied.copy_(original)

    def owns(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor lies in one of the copies (an in-place result)."""
        pointer = tensor.untyped_storage().data_ptr()
        return any(copied.untyped_storage().data_ptr() == pointer for _, copied in self._storages.values())


def _capture(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    estimate_s: float,
    fresh_bytes: int,
    *,
    cold: bool,
) -> _Graph:
    """Capture a graph, then once more with as many calls as its own time asks for.

    The first estimate holds launch gaps and differs between processes by half; the share of a replay's start in a sample
    would differ with the number of calls.
    """
    first = _Graph(fn, args, kwargs, estimate_s, fresh_bytes, cold=cold)
    first.replay()
    call_s = min(_elapsed_s(first.replay) for _ in range(3)) / first.calls
    first.close()
    return _Graph(fn, args, kwargs, call_s, fresh_bytes, cold=cold)


class _Graph:
    """A captured sequence of calls over rotated inputs."""

    def __init__(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        estimate_s: float,
        fresh_bytes: int,
        *,
        cold: bool,
    ) -> None:
        tensors = _tensors((args, kwargs))
        self.rotates = cold and _rotatable(tensors)
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        call_bytes = sum(storages.values()) + fresh_bytes
        l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        wanted = math.ceil(REPLAY_S / estimate_s)
        if self.rotates:
            wanted = max(wanted, math.ceil(L2_TIMES * l2_bytes / max(call_bytes, 1)))
        room = max(1, int(MEMORY_SHARE * _free_bytes() / max(call_bytes, 1)))
        # Powers of two, so that small differences of the estimate or of the free memory give the same number.
        self.calls = min(_power_of_two_above(wanted), MAX_CALLS, 1 << (room.bit_length() - 1))
        self.copies = [_Copy(args, kwargs) for _ in range(self.calls)] if self.rotates else []
        # Each copy is read once a replay; where all of them fit into the L2 cache they are evicted in between.
        # Without copies only the first call of a replay could be cold, so it holds a single one.
        self.flush: torch.Tensor | None = None
        if cold and (not self.rotates or self.calls * call_bytes < L2_TIMES * l2_bytes):
            self.flush = torch.ones(
                2 * l2_bytes // 4, dtype=torch.int32, device=tensors[0].device if tensors else "cuda"
            )
            if not self.rotates:
                self.calls = 1
        self.results: list[Any] = []
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph):
            for index in range(self.calls):
                copy = self.copies[index] if self.copies else None
                # Results are kept so that every call writes to memory of its own.
                self.results.append(fn(*copy.args, **copy.kwargs) if copy else fn(*args, **kwargs))
        torch.cuda.synchronize()

    @property
    def cache(self) -> str:
        """How the inputs are kept out of the L2 cache, or that they are not."""
        if self.flush is not None:
            return "flushed"
        return "rotated" if self.rotates else "warm"

    @property
    def returns_tensors(self) -> bool:
        """Whether the result of a replay is in tensors (and not, say, a Python number from the capture)."""
        leaves = pytree.tree_leaves(self.results[0])
        return bool(leaves) and all(isinstance(leaf, torch.Tensor) and leaf.is_cuda for leaf in leaves)

    def replay(self) -> None:
        """Queue one replay."""
        self._graph.replay()

    def evict(self) -> None:
        """Queue what pushes the inputs out of the L2 cache: a read, which leaves no dirty lines to write back."""
        if self.flush is not None:
            self.flush.max()

    def checked_result(self) -> Any:
        """Replay on pristine inputs and poisoned outputs; give the result of the first call."""
        for copy in self.copies:
            copy.restore()
        first = self.copies[0] if self.copies else None
        for tensor in _tensors(self.results[0]):
            if first is not None and not first.owns(tensor):
                _poison(tensor)
        self.replay()
        torch.cuda.synchronize()
        return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, self.results[0])

    def close(self) -> None:
        """Release the graph and its memory."""
        torch.cuda.synchronize()
        self.results, self.copies, self.flush = [], [], None
        self._graph.reset()


def _power_of_two_above(number: int) -> int:
    """Give the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()


def _poison(tensor: torch.Tensor) -> None:
    """Fill an output with a pattern that no right result has, so that an unwritten element shows."""
    if tensor.is_floating_point() and tensor.element_size() > 1:
        tensor.fill_(math.nan)
    elif tensor.is_contiguous():
        tensor.view(torch.uint8).fill_(0x5A)


def _free_bytes() -> int:
    """Give the memory that can still be allocated: free on the device or cached by torch."""
    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def _sample_graph(graph: _Graph, budget_s: float, target: float, watch: Callable[[], None]) -> list[float]:
    """Replay until the median is known well enough or the budget is spent; give seconds per call."""
    graph.replay()
    once_s = _elapsed_s(graph.replay)
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


def _elapsed_s(work: Callable[[], None]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return max(float(start.elapsed_time(end)) * 1e-3, 1e-6)


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
