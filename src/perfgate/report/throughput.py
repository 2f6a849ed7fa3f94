"""How fast did a case move bytes and do operations, and how near is that to a plain copy?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from perfgate.model import CaseResult, MetricVerdict, Outcome
from perfgate.units import quantity, share

# The first of these that a case has is the time its work took.
_TIMES = ("device_time", "wall_time")


@dataclass(frozen=True)
class Throughput:
    """What one call achieved.

    Args:
        metric: name of the time it rests on.
        bytes_per_s: bytes/s.
        flops_per_s: floating-point operations/s.
        share_of_copy: bytes/s as a part of the copy bandwidth measured for this very case.
    """

    metric: str
    bytes_per_s: float | None = None
    flops_per_s: float | None = None
    share_of_copy: float | None = None

    def text(self) -> str:
        """Write it, e.g. ``3.87 TB/s, 93 % of copy, 12.1 TFLOP/s``."""
        parts = []
        if self.bytes_per_s is not None:
            parts.append(quantity(self.bytes_per_s, "B/s"))
        if self.share_of_copy is not None:
            parts.append(f"{share(self.share_of_copy)} of copy")
        if self.flops_per_s is not None:
            parts.append(quantity(self.flops_per_s, "FLOP/s"))
        return ", ".join(parts)


def throughput(result: CaseResult) -> Throughput | None:
    """Give the throughput of a case that stated its work and has a time; None for any other."""
    time = time_metric(result)
    work = result.work
    if time is None or work is None or (work.bytes is None and work.flops is None):
        return None
    moved = None if work.bytes is None else work.bytes / time.value
    done = None if work.flops is None else work.flops / time.value
    part = moved / result.copy_bandwidth if moved is not None and result.copy_bandwidth else None
    return Throughput(time.name, moved, done, part)


def time_metric(result: CaseResult) -> MetricVerdict | None:
    """Give the metric that says how long the work of a case took, if the case got that far."""
    if result.outcome is not Outcome.PASSED:
        return None
    by_name = {metric.name: metric for metric in result.metrics}
    time = next((by_name[name] for name in _TIMES if name in by_name), None)
    return time if time is not None and math.isfinite(time.value) and time.value > 0 else None
