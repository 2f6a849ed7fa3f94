"""What does a case measure with extra work? The same timers as before, on a call that does more."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfgate.calibrate import inject
from perfgate.calibrate.samples import Samples, summary
from perfgate.calibrate.steps import Steps, bytes_of, label, memory_label
from perfgate.measure import case
from perfgate.measure.unprofiled import unprofiled
from perfgate.model import Device, Metric
from perfgate.plan import Plan


@dataclass(frozen=True)
class Again:
    """One metric, measured with extra work.

    Attributes:
        metric: its name.
        step: which extra work.
        value: in the metric's unit.
        speeds: of the machine, around the samples.
        samples: what is kept of them.
    """

    metric: str
    step: str
    value: float
    speeds: Mapping[str, float] = field(default_factory=dict)
    samples: Samples | None = None


def measure(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    *,
    plan: Plan,
    device: Device,
    plain: Sequence[Metric],
    method: Mapping[str, str],
    steps: Steps,
) -> tuple[list[Again], list[str]]:
    """Measure a call again, once for each step.

    Args:
        fn: the call.
        args: its positional arguments.
        kwargs: its keyword arguments.
        plan: its ``perf`` marker.
        device: where it runs.
        plain: what was measured of it just now, without extra work.
        method: how.
        steps: the extra work.

    Returns:
        What was measured, and for each step that could not be added why.
    """
    found: list[Again] = []
    problems: list[str] = []
    call = functools.partial(fn, *args, **kwargs)
    with unprofiled():
        for metric in plain:
            if metric.name == "memory":
                found += (_memory(call, step, metric, device) for step in steps.memory)
                continue
            for share in steps.time:
                if metric.name == "device_time":
                    again, problem = _device_time(fn, args, kwargs, share, metric, plan, method)
                elif device.kind == "cpu":
                    again, problem = _cpu_time(call, share, metric, plan)
                else:
                    again, problem = _wall_time(call, share, metric, plan), ""
                if again is not None:
                    found.append(again)
                if problem:
                    problems.append(f"{label(share)}: {problem}")
    return found, problems


def _device_time(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    share: float,
    metric: Metric,
    plan: Plan,
    method: Mapping[str, str],
) -> tuple[Again | None, str]:
    import torch

    from perfgate.measure.device import time_device
    from perfgate.measure.device_conditions import open_conditions

    # What the extra work costs is measured before any graph is being captured.
    inject.spin_cost(torch.cuda.current_device())
    conditions = open_conditions(torch.cuda.current_device())
    slower = inject.DeviceExtra(fn, share * metric.value)
    timing = time_device(
        slower, args, kwargs, budget_s=plan.budget_s or case.DEVICE_BUDGET_S, cache=plan.cache, watch=conditions.watch
    )
    if slower.problem:
        return None, slower.problem
    for name, now in (("launch", timing.launch), ("cache", timing.cache)):
        if now != method.get(name):
            return None, f"measured otherwise with extra work: {name} {method.get(name)} -> {now}"
    speeds = conditions.speeds()
    return Again(metric.name, label(share), timing.median_s, speeds, summary(timing.samples)), ""


def _cpu_time(call: Callable[[], Any], share: float, metric: Metric, plan: Plan) -> tuple[Again | None, str]:
    from perfgate.measure import wall
    from perfgate.measure.reference_speed import ReferenceSpeeds
    from perfgate.measure.threads import pinned

    if "core" not in metric.speeds:
        return None, "the machine's speed around the samples is not known"
    with pinned(plan.threads):
        timing = wall.time_wall(
            inject.on_cpu(call, share * metric.value * metric.speeds["core"]),
            budget_s=plan.budget_s or case.WALL_BUDGET_S,
            references=ReferenceSpeeds(),
        )
    return Again(metric.name, label(share), timing.median_s, timing.speeds, summary(timing.samples)), ""


def _wall_time(call: Callable[[], Any], share: float, metric: Metric, plan: Plan) -> Again:
    import torch

    from perfgate.measure.host_speed import HostSpeed
    from perfgate.measure.wall import time_wall

    slower, host = inject.on_both(call, share * metric.value), HostSpeed()
    with host.around():
        timing = time_wall(slower, budget_s=plan.budget_s or case.WALL_BUDGET_S, synchronize=torch.cuda.synchronize)
    return Again(metric.name, label(share), timing.median_s, host.speeds(), summary(timing.samples))


def _memory(call: Callable[[], Any], step: str, metric: Metric, device: Device) -> Again:
    held = inject.holding(call, bytes_of(step, metric.value), device=device.kind != "cpu")
    if device.kind == "cpu":
        from perfgate.measure import cpu_memory

        return Again(metric.name, memory_label(step), cpu_memory.peak_memory(held).peak_bytes)
    from perfgate.measure import device_memory

    return Again(metric.name, memory_label(step), device_memory.peak_memory(held, collect=False).peak_bytes)
