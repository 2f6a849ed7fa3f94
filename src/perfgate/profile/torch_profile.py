"""What did one call do under torch's profiler? Its operators, the kernels it launched, and how often.

Only counts are exact. The profiler slows a call down by half and more, so none of its times is the time of the call.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from perfgate.errors import SettingError

#: Rows of torch's tables that are no operator: frees between operators, and what the profiler itself costs.
_NO_OPERATORS = frozenset(
    {
        "[memory]",
        "Activity Buffer Request",
        "Buffer Flush",
        "Command Buffer Full",
        "Driver Compiler",
        "Instrumentation",
        "Lazy Function Loading",
        "Resource",
        "Runtime Triggered Module Loading",
        "UVM Activity Init",
    }
)
#: Calls of the CUDA or HIP library on the CPU, as "cudaLaunchKernel", "cuLaunchKernelEx" or "hipMemcpyAsync".
_RUNTIME = re.compile(r"(cuda|cu|hip)[A-Z]\w*")
_COPY = re.compile(r"Mem(cpy|set)\b|Copy(Device|Host)To|FillBuffer")


@dataclass(frozen=True)
class Operator:
    """One operator of the call, summed over its calls.

    Args:
        name: as torch calls it, e.g. "aten::mm" or "MmBackward0".
        calls: how often it was called; exact.
        self_cpu_s: seconds on the CPU in itself, under the profiler.
        cpu_s: the same with the operators that it called.
        self_device_s: seconds on the device of the kernels that it launched itself.
        device_s: the same with the operators that it called.
        self_cpu_bytes: bytes allocated less bytes freed on the CPU in itself.
        self_device_bytes: the same on the device.
    """

    name: str
    calls: int
    self_cpu_s: float
    cpu_s: float
    self_device_s: float
    device_s: float
    self_cpu_bytes: int
    self_device_bytes: int


@dataclass(frozen=True)
class Span:
    """A part of the call that is marked with ``torch.profiler.record_function``, summed over its calls.

    Args:
        name: as it was marked.
        calls: how often it ran.
        cpu_s: seconds from its begin to its end on the CPU, under the profiler.
        device_s: seconds of everything on the device that was launched meanwhile, by autograd's threads too.
    """

    name: str
    calls: int
    cpu_s: float
    device_s: float


@dataclass(frozen=True)
class Profile:
    """What one call did.

    Args:
        operators: by self time, the longest first: on the device, or on the CPU when the device did nothing.
        kernels: how often each kernel ran on the device, by name; exact.
        copies: how often the device copied or filled memory outside of kernels, by kind.
        runtime: how often the CUDA or HIP library was called on the CPU, by function.
        spans: parts of the call that it marks itself, in the order in which they first began.
        cpu_s: seconds on the CPU, as torch sums them up.
        device_s: seconds of kernels, copies and fills on the device.
    """

    operators: tuple[Operator, ...]
    kernels: Mapping[str, int]
    copies: Mapping[str, int]
    runtime: Mapping[str, int]
    spans: tuple[Span, ...]
    cpu_s: float
    device_s: float
    _averages: Any = field(repr=False, compare=False)
    _profiler: Any = field(repr=False, compare=False)

    @property
    def launches(self) -> int:
        """How many kernels ran on the device; 0 on a CPU."""
        return sum(self.kernels.values())

    def calls(self, name: str) -> int:
        """Count the calls of an operator or of a function of the CUDA library; 0 when there was none."""
        found = next((operator.calls for operator in self.operators if operator.name == name), 0)
        return found or self.runtime.get(name, 0)

    def table(self, rows: int = 15) -> str:
        """Write torch's own table of operators and kernels, by self time on the device, or else on the CPU.

        Args:
            rows: at most so many.
        """
        text: str = self._averages.table(sort_by=_order(self.device_s), row_limit=rows)
        return text

    def write_trace(self, path: str | Path) -> None:
        """Write a trace that chrome://tracing and Perfetto open; compressed when the path ends in ``.gz``."""
        self._profiler.export_chrome_trace(str(path))


def capture(call: Callable[[], object], *, warmed_up: bool = False) -> Profile:
    """Run a call once under torch's profiler, after it ran once without.

    Args:
        call: what to profile; its result is dropped.
        warmed_up: whether it has run before in this process, so that it need not run without the profiler.

    Raises:
        SettingError: a profiler of torch is running already.
    """
    import torch
    from torch.profiler import ProfilerActivity

    if torch.autograd._profiler_enabled():
        raise SettingError(
            "perfgate.profile.capture: torch's profiler is running already",
            "A second one ends the first, and neither profile is complete.",
            "capture outside of it",
        )
    if not warmed_up:
        call()
    activities = [ProfilerActivity.CPU]
    # A call that left CUDA alone would pay for a context and for the profiler's buffers on the device.
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        # What was launched before does not belong to the profile.
        torch.cuda.synchronize()
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        call()
    return read(profiler)


def read(profiler: Any) -> Profile:
    """Read what a torch profiler has recorded.

    Args:
        profiler: a ``torch.profiler.profile`` that has stopped.
    """
    from torch.autograd import DeviceType

    rows = profiler.key_averages()
    on_cpu = [row for row in rows if row.device_type == DeviceType.CPU and not row.is_user_annotation]
    device_s = sum((_seconds(row.self_device_time_total) for row in rows if _counts_as_device_time(row)), 0.0)
    # The names that begin with "cuda_time" are gone or deprecated: tables made with them show zeros.
    on_cpu.sort(key=lambda row: getattr(row, _order(device_s)), reverse=True)
    kernels, copies = _on_device(profiler.events())
    return Profile(
        operators=tuple(
            Operator(
                name=row.key,
                calls=row.count,
                self_cpu_s=_seconds(row.self_cpu_time_total),
                cpu_s=_seconds(row.cpu_time_total),
                self_device_s=_seconds(row.self_device_time_total),
                device_s=_seconds(row.device_time_total),
                self_cpu_bytes=row.self_cpu_memory_usage,
                self_device_bytes=row.self_device_memory_usage,
            )
            for row in on_cpu
            if row.key not in _NO_OPERATORS and not _RUNTIME.fullmatch(row.key)
        ),
        kernels=kernels,
        copies=copies,
        runtime={row.key: row.count for row in on_cpu if _RUNTIME.fullmatch(row.key)},
        spans=spans_of(profiler.profiler.kineto_results.events()),
        cpu_s=sum((_seconds(row.self_cpu_time_total) for row in rows), 0.0),
        device_s=device_s,
        _averages=rows,
        _profiler=profiler,
    )


def _order(device_s: float) -> str:
    return "self_device_time_total" if device_s > 0 else "self_cpu_time_total"


def _seconds(microseconds: float) -> float:
    return microseconds * 1e-6


def _counts_as_device_time(row: Any) -> bool:
    """Whether a row stands for work of the device itself, as torch's own total takes it."""
    from torch.autograd import DeviceType

    if row.device_type == DeviceType.CPU:
        return bool(row.is_legacy)
    return not row.is_user_annotation


def _on_device(events: Iterable[Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Count kernels, and copies and fills, by name."""
    from torch.autograd import DeviceType

    kernels: Counter[str] = Counter()
    copies: Counter[str] = Counter()
    for event in events:
        if event.device_type != DeviceType.CPU and not event.is_user_annotation:
            (copies if _COPY.match(event.name) else kernels)[event.name] += 1
    return dict(kernels.most_common()), dict(copies.most_common())


def spans_of(events: Sequence[Any]) -> tuple[Span, ...]:
    """Sum up the marked parts of a call.

    torch gives a span the kernels of operators on its own thread, and none to one around ``backward()``, whose
    operators autograd runs on a thread for each device. Here it gets what was launched while it lasted, on any thread.

    Args:
        events: what the profiler recorded (torch's ``_KinetoEvent``).
    """
    from torch.autograd import DeviceType

    marked = [event for event in events if event.is_user_annotation() and event.device_type() == DeviceType.CPU]
    if not marked:
        return ()
    # What runs on the device carries the number of the call of the library that launched it.
    launched_ns = {
        event.correlation_id(): event.start_ns()
        for event in events
        if event.device_type() == DeviceType.CPU and _RUNTIME.fullmatch(event.name())
    }
    work = sorted(
        (launched_ns[event.correlation_id()], event.duration_ns())
        for event in events
        if event.device_type() != DeviceType.CPU
        and not event.is_user_annotation()
        and event.correlation_id() in launched_ns
    )
    at_ns = [at for at, _ in work]
    done_ns = [0, *accumulate(lasted for _, lasted in work)]
    spans: dict[str, Span] = {}
    for event in sorted(marked, key=lambda event: event.start_ns()):
        device_ns = done_ns[bisect_left(at_ns, event.end_ns())] - done_ns[bisect_left(at_ns, event.start_ns())]
        before = spans.get(event.name(), Span(event.name(), 0, 0.0, 0.0))
        spans[event.name()] = Span(
            before.name, before.calls + 1, before.cpu_s + event.duration_ns() * 1e-9, before.device_s + device_ns * 1e-9
        )
    return tuple(spans.values())
