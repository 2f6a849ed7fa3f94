"""How is a call captured, over and over, on inputs that the L2 cache has forgotten? Imports torch."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from perfgate.measure.held import holds_tensors

#: A graph holds so many calls that its replay takes about this long. Starting it costs some 3 us on an H200, which is
#: part of every sample: 0.6 % at this length, and the same from process to process as long as the calls are.
REPLAY_S = 500e-6
MAX_CALLS = 256
#: Inputs are rotated over this many times the size of the L2 cache.
L2_TIMES = 3
#: Share of the free memory that copies of inputs and outputs may take.
MEMORY_SHARE = 0.25
#: Graphs that are thrown away before the first one that counts.
FIRST_GRAPHS = 5
#: Copies start at multiples of this many bytes, as tensors from the allocator do.
_ALIGNMENT = 512


def _tensors(tree: Any) -> list[torch.Tensor]:
    """Give the device tensors in nested arguments or results."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.is_cuda]


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is strided memory on the current device, and nothing else: not sparse, not a subclass."""
    here = tensor.device.index == torch.cuda.current_device()
    return here and tensor.layout == torch.strided and type(tensor) in (torch.Tensor, torch.nn.Parameter)


def _storage(tensor: torch.Tensor) -> int:
    """Give what tells one piece of memory from another."""
    return int(tensor.untyped_storage().data_ptr())


def _input_bytes(tensors: Sequence[torch.Tensor]) -> int:
    """Give the memory behind plain arguments; views that share memory count once."""
    return sum(
        {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in tensors if _is_plain(tensor)}.values()
    )


def _rotatable(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether arguments can be replaced by copies: it changes nothing, and there is room."""
    if not tensors or not all(map(_is_plain, tensors)):
        return False
    if any(tensor.requires_grad or tensor.grad_fn is not None for tensor in tensors):
        return False
    return _input_bytes(tensors) <= MEMORY_SHARE * _free_bytes()


class Copies:
    """Copies of the arguments of a call in one block of memory; views that share memory keep sharing it.

    One fresh block, because where copies lie matters: 256 copies taken from what earlier cases left in the allocator's
    cache made a 2.4 us kernel 14 % slower on an H200, and how the cache looks depends on which cases ran before.
    """

    def __init__(self, args: Sequence[Any], kwargs: dict[str, Any], count: int) -> None:
        storages = {_storage(tensor): tensor.untyped_storage() for tensor in _tensors((args, kwargs))}
        self._originals = [
            torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage) for storage in storages.values()
        ]
        padded = [-(-original.numel() // _ALIGNMENT) * _ALIGNMENT for original in self._originals]
        self._stride = max(sum(padded), _ALIGNMENT)
        self._offsets = dict(zip(storages, itertools.accumulate([0, *padded]), strict=False))
        torch.cuda.empty_cache()
        self._block = torch.empty(self._stride * count, dtype=torch.uint8, device=self._originals[0].device)
        self.calls = [
            pytree.tree_map(functools.partial(self._replace, start=number * self._stride), (tuple(args), kwargs))
            for number in range(count)
        ]
        self.restore()

    def _replace(self, leaf: Any, start: int) -> Any:
        if not (isinstance(leaf, torch.Tensor) and leaf.is_cuda):
            return leaf
        offset = (start + self._offsets[_storage(leaf)]) // leaf.element_size()
        view = torch.empty(0, dtype=leaf.dtype, device=leaf.device)
        return view.set_(self._block.untyped_storage(), offset + leaf.storage_offset(), leaf.size(), leaf.stride())

    def restore(self) -> None:
        """Make the copies equal to the originals again."""
        for start in range(0, self._block.numel(), self._stride):
            for original, offset in zip(self._originals, self._offsets.values(), strict=True):
                self._block[start + offset : start + offset + original.numel()].copy_(original)

    def own(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor lies in one of the copies (an in-place result)."""
        return _storage(tensor) == _storage(self._block)


@dataclass(frozen=True)
class WarmUp:
    """What a call showed before it was captured.

    Attributes:
        call_s: device time of one call, launch gaps included.
        result: what it returned.
        fresh_bytes: device memory that it allocated and kept.
    """

    call_s: float
    result: Any = field(repr=False)
    fresh_bytes: int


def warm_up(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> WarmUp:
    """Call twice (the first call compiles and tunes), on a copy of the inputs where they can be replaced by copies.

    A call that writes to its inputs would otherwise be timed, and checked, on what the warm-up left of them.
    """
    if _rotatable(_tensors((args, kwargs))):
        args, kwargs = Copies(args, kwargs, 1).calls[0]
    fn(*args, **kwargs)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    result = None

    def call() -> None:
        nonlocal result
        result = fn(*args, **kwargs)

    call_s = elapsed_s(call)
    return WarmUp(call_s, result, max(torch.cuda.memory_allocated() - before, 0))


def capture(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], warm: WarmUp, *, cold: bool) -> Graph:
    """Capture a graph, then once more with as many calls as its own time asks for.

    The first estimate holds launch gaps and differs between processes by half; with the number of calls the share of a
    replay's start in a sample would differ too.
    """
    _discard_first_graphs(torch.cuda.current_device())
    first = Graph(fn, args, kwargs, warm, cold=cold)
    first.replay()
    call_s = min(elapsed_s(first.replay) for _ in range(3)) / first.calls
    first.close()
    return Graph(fn, args, kwargs, replace(warm, call_s=call_s), cold=cold)


def release_generator() -> None:
    """Give the default generator a state of its own again after a capture that failed.

    A capture that is broken off never tells the generator that it is over: the next random number would raise "Offset
    increment outside graph capture".
    """
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(generator.clone_state())


@functools.cache
def _discard_first_graphs(device: int) -> None:
    """Capture, replay and release some graphs, once a process and device.

    Kernels in the first two graphs of a process start 0.35 us sooner after each other than in all later ones (H200,
    driver 580: 1.83 and 2.18 us for a kernel of 128 rows, whatever ran before that was not a graph), so that a short
    case would read faster when it is the first.
    """
    numbers = torch.ones(1024, device=f"cuda:{device}")
    for _ in range(FIRST_GRAPHS):
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            numbers.add_(1)
        graph.replay()
        torch.cuda.synchronize()
        graph.reset()


class Graph:
    """A captured sequence of calls over rotated inputs."""

    def __init__(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        warm: WarmUp,
        *,
        cold: bool,
    ) -> None:
        tensors = _tensors((args, kwargs))
        # What is not among the arguments would be warm from the second call of a replay on.
        self.rotates = cold and _rotatable(tensors) and not holds_tensors(fn, args, kwargs)
        call_bytes = _input_bytes(tensors) + warm.fresh_bytes
        l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        wanted = math.ceil(REPLAY_S / warm.call_s)
        if self.rotates:
            wanted = max(wanted, math.ceil(L2_TIMES * l2_bytes / max(call_bytes, 1)))
        room = max(1, int(MEMORY_SHARE * _free_bytes() / max(call_bytes, 1)))
        # Powers of two, so that small differences of the estimate or of the free memory give the same number.
        self.calls = min(_power_of_two_above(wanted), MAX_CALLS, 1 << (room.bit_length() - 1))
        self.copies = Copies(args, kwargs, self.calls) if self.rotates else None
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
        # What the warm-up returned is still there, so memory at the same place is no output of the captured call but
        # something that it returns as it is: a buffer of a model, or an input that it wrote to.
        self._kept = frozenset(map(_storage, filter(_is_plain, [*_tensors(warm.result), *tensors])))
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph):
            for call_args, call_kwargs in self.copies.calls if self.copies else [(args, kwargs)] * self.calls:
                # Results are kept so that every call writes to memory of its own.
                self.results.append(fn(*call_args, **call_kwargs))
            add_extra(fn, self.calls)
        torch.cuda.synchronize()

    @property
    def cache(self) -> str:
        """How the inputs are kept out of the L2 cache, or that they are not."""
        if self.flush is not None:
            return "flushed"
        return "rotated" if self.rotates else "warm"

    @property
    def returns_tensors(self) -> bool:
        """Whether a replay writes what the call returns. What else is returned is that of the captured call."""
        return bool(_tensors(self.results[0]))

    def replay(self) -> None:
        """Queue one replay."""
        self._graph.replay()

    def evict(self) -> None:
        """Queue what pushes the inputs out of the L2 cache: a read, which leaves no dirty lines to write back."""
        if self.flush is not None:
            self.flush.max()

    def checked_result(self) -> Any:
        """Replay on pristine inputs (if they are rotated) and poisoned outputs; give the result of the first call."""
        if self.copies is not None:
            self.copies.restore()
        for tensor in filter(_is_plain, _tensors(self.results[0])):
            if not (_storage(tensor) in self._kept or (self.copies is not None and self.copies.own(tensor))):
                _poison(tensor)
        self.replay()
        torch.cuda.synchronize()
        return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, self.results[0])

    def close(self) -> None:
        """Release the graph and its memory."""
        torch.cuda.synchronize()
        self.results, self.copies, self.flush = [], None, None
        self._graph.reset()


def add_extra(fn: Callable[..., Any], calls: int) -> None:
    """Queue the extra work that a calibration adds to a sample of so many calls; calls of any other run have none."""
    extra = getattr(fn, "perfgate_extra", None)
    if extra is not None:
        extra(calls)


def _power_of_two_above(number: int) -> int:
    """Give the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()


def _poison(tensor: torch.Tensor) -> None:
    """Fill an output with a pattern that no right result has, so that an unwritten element shows."""
    if tensor.is_floating_point() and tensor.element_size() > 1:
        tensor.fill_(math.nan)
    elif tensor.is_contiguous():
        tensor.reshape(-1).view(torch.uint8).fill_(0x5A)


def _free_bytes() -> int:
    """Give the memory that can still be allocated: free on the device or cached by torch."""
    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def elapsed_s(work: Callable[[], None]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return max(float(start.elapsed_time(end)) * 1e-3, 1e-6)
