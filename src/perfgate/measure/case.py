"""What are the figures of one call? Time by the clocks its plan names, then memory in a pass of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfgate.errors import SettingError
from perfgate.measure.unprofiled import unprofiled
from perfgate.model import METHOD_VERSION, Device, Limit, Metric, Noise
from perfgate.plan import Plan

#: Between-process spread of device time on an H200: 0.05 to 0.3 % from 27 us up, about 30 ns below.
DEVICE_NOISE = Noise(0.002, 30e-9)
DEVICE_LIMIT = Limit(0.02, 0.25e-6)
#: Wall time of work on a GPU: the CPU's launches are part of it.
DEVICE_WALL_NOISE = Noise(0.05)
DEVICE_WALL_LIMIT = Limit(0.10)

DEVICE_BUDGET_S = 0.25
WALL_BUDGET_S = 1.0


@dataclass(frozen=True)
class Taken:
    """The figures of one call and how they came about.

    Args:
        metrics: time and memory.
        method: how they were measured; another method makes a baseline STALE.
        conditions: what the machine did meanwhile.
        samples_s: seconds per call of the first clock, for pytest-benchmark's own table and files.
        result: what a timed call returned.
        kernels: figures of the compiled kernels that it launched.
    """

    metrics: tuple[Metric, ...]
    method: Mapping[str, str]
    conditions: Mapping[str, Any]
    samples_s: tuple[float, ...]
    result: Any = field(repr=False, compare=False)
    kernels: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)


def measure(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, plan: Plan, device: Device
) -> Taken:
    """Measure one call on a device.

    Raises:
        SettingError: the plan asks for the device clock on a CPU, or torch's profiler runs meanwhile.
    """
    if device.kind == "cpu" and plan.clock in ("device", "both"):
        raise SettingError(
            f"perf marker: clock={plan.clock!r} needs a GPU, and this case runs on {device.name}",
            hint="mark the case cuda, rocm or sm80, or take clock='wall'",
        )
    with unprofiled():
        return (_on_cpu if device.kind == "cpu" else _on_device)(fn, args, kwargs, plan)


def _on_cpu(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], plan: Plan) -> Taken:
    from perfgate.measure import cpu_memory, reference_speed, wall
    from perfgate.measure.cpu_conditions import CpuConditions
    from perfgate.measure.threads import pinned

    with cpu_memory.resting_heap(), pinned(plan.threads), CpuConditions() as conditions:
        timing = wall.time_wall(
            lambda: fn(*args, **kwargs),
            budget_s=plan.budget_s or WALL_BUDGET_S,
            references=reference_speed.ReferenceSpeeds(),
        )
        memory = cpu_memory.peak_memory(lambda: fn(*args, **kwargs))
    metrics = (
        Metric(
            "wall_time",
            "s",
            timing.median_s,
            limit=plan.time or wall.WALL_LIMIT_CPU,
            noise=wall.WALL_NOISE_CPU,
            spread=timing.spread,
            samples=len(timing.samples),
            speeds=timing.speeds,
        ),
        Metric(
            "memory",
            "B",
            memory.peak_bytes,
            limit=_memory_limit(plan.memory, cpu_memory.MEMORY_LIMIT),
            noise=cpu_memory.MEMORY_NOISE,
        ),
    )
    method = {
        "version": METHOD_VERSION,
        "clock": "wall",
        "threads": str(plan.threads),
        "memory": memory.method,
    }
    return Taken(metrics, method, conditions.report(), timing.samples, timing.result)


def _on_device(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], plan: Plan) -> Taken:
    import torch

    from perfgate.measure import device_memory
    from perfgate.measure.device_conditions import open_conditions
    from perfgate.static import launched

    conditions = open_conditions(torch.cuda.current_device())
    method = {"version": METHOD_VERSION, "clock": plan.clock or "wall"}
    metrics: list[Metric] = []
    samples: tuple[float, ...] = ()
    result: Any = None
    if plan.clock in ("device", "both"):
        from perfgate.measure.device import time_device

        timing = time_device(
            fn, args, kwargs, budget_s=plan.budget_s or DEVICE_BUDGET_S, cache=plan.cache, watch=conditions.watch
        )
        method |= {"launch": timing.launch, "cache": timing.cache}
        samples, result = timing.samples, timing.result
        metrics.append(
            Metric(
                "device_time",
                "s",
                timing.median_s,
                limit=plan.time or DEVICE_LIMIT,
                noise=DEVICE_NOISE,
                spread=timing.spread,
                samples=len(samples),
                speeds=conditions.speeds(),
            )
        )
    if plan.clock != "device":
        from perfgate.measure.host_speed import HostSpeed
        from perfgate.measure.wall import time_wall

        def timed_call() -> Any:
            return fn(*args, **kwargs)

        host = HostSpeed()
        conditions.watch()
        with host.around():
            wall = time_wall(timed_call, budget_s=plan.budget_s or WALL_BUDGET_S, synchronize=torch.cuda.synchronize)
        conditions.watch()
        if not samples:
            samples, result = wall.samples, wall.result
        metrics.append(
            Metric(
                "wall_time",
                "s",
                wall.median_s,
                limit=plan.time or DEVICE_WALL_LIMIT,
                noise=DEVICE_WALL_NOISE,
                spread=wall.spread,
                samples=len(wall.samples),
                # Wall time is mostly the CPU's: the SM clock does not explain it.
                speeds=host.speeds(),
            )
        )
    with launched.recording() as compiled:
        memory = device_memory.peak_memory(lambda: fn(*args, **kwargs))
    method["memory"] = memory.method
    metrics.append(
        Metric(
            "memory",
            "B",
            memory.peak_bytes,
            limit=_memory_limit(plan.memory, device_memory.MEMORY_LIMIT),
            noise=device_memory.MEMORY_NOISE,
        )
    )
    seen = {**conditions.report(), "memory_reserved_bytes": memory.reserved_bytes}
    return Taken(tuple(metrics), method, seen, samples, result, launched.describe(compiled))


def _memory_limit(asked: Limit | None, default: Limit) -> Limit:
    """Allow at least what the measuring method cannot resolve, even under ``memory="0"``."""
    if asked is None:
        return default
    return Limit(asked.relative, max(asked.absolute, default.absolute))


def uses_accelerator(values: object) -> bool:
    """Whether tensors on a GPU are among the arguments of a call."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    return any(isinstance(value, torch.Tensor) and value.is_cuda for value in _leaves(values))


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value
