"""Is a change that is shown one in cycles of the machine, and at which speed did the machine run for it?

Where a verdict was found in cycles (:mod:`perfgate.verdict.speeds`), its change is not the ratio of the values, which
are seconds. The values and the change together say which speed lies between them: that is no further figure to keep.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from perfgate import units
from perfgate.model import MetricVerdict, Verdict

#: A machine whose speed was another by no more than this leaves a change as the values have it.
NOTICED = 0.01
#: Nor is a difference noticed that is no larger than what three digits of a value leave open, or this part of a change.
ROUNDED, PART = 0.005, 1 / 3

_RECORDING = "of the speed at recording"


def speed(metric: MetricVerdict) -> float | None:
    """Give the speed of the machine that a change is corrected for, as a share of the speed on the other side.

    Returns:
        The share; None where the change is that of the values, as nearly as they are read.
    """
    change = metric.change
    if not metric.relative or change is None or not math.isfinite(change) or change <= -1:
        return None
    before = _middle(metric.baseline_values or (metric.baseline or 0.0,))
    now = _middle(metric.values or (metric.value,))
    if before is None or now is None:
        return None
    plain = now / before
    ratio = (1 + change) / plain
    unread = max(ROUNDED, PART * abs(change))
    if abs(ratio - 1) <= NOTICED and abs(1 + change - plain) <= unread:
        return None
    return ratio if metric.better == "lower" else 1 / ratio


def _middle(values: Sequence[float]) -> float | None:
    """Give the median on the scale that changes are found on; None where no share of it can be."""
    if not all(0 < value < math.inf for value in values):
        return None
    return math.exp(statistics.median(map(math.log, values)))


def about(ran: float) -> str:
    """Write what :func:`speed` gave, e.g. ``about 115 %``; near to 100 % with the digit that shows the difference.

    Each process is corrected for its own speed, and a case may feel one speed of the machine more than another: medians
    of the machine's speeds need not be this very figure.
    """
    return f"about {units.share(round(ran, 2 if abs(ran - 1) >= NOTICED else 3))}"


def explained(metric: MetricVerdict) -> str:
    """Give the reason of a metric; where its change is in cycles, it says so."""
    reason = metric.reason
    ran = speed(metric)
    if ran is None or "in its cycles the change is" in reason:
        return reason
    if reason.endswith(_RECORDING):
        return f"{reason}; the change is in its cycles, process by process"
    if metric.verdict is Verdict.UNCHANGED:
        return reason
    told = f"the change is in cycles of the machine, which ran at {about(ran)} {_RECORDING}"
    return "; ".join(filter(None, (reason, told)))
