"""Was the machine another one for the two sides of a pair? Such a pair is measured again.

Both sides of a pair run within seconds, so that what the machine does falls on both. Where it does not, as when a
neighbour on a shared core starts between them, the pair tells more of the neighbour than of the code: the views of the
time (:mod:`perfgate.verdict.speeds`) move apart, and the case ends THROTTLED or INCONCLUSIVE. Only the machine's speeds
are asked here, never the figures of the case, so that no pair is dropped for what it says of the code.
"""

from __future__ import annotations

from perfgate.model import Measurement

#: Sides between which a speed of the machine differs by more than this saw two machines.
APART = 0.05


def spares(pairs: int) -> int:
    """Give how many pairs may be measured again in a run of so many: on a machine that never rests it must end."""
    return pairs // 2


def shaken(base: Measurement, head: Measurement) -> bool:
    """Whether a speed of the machine differs between the sides of a pair.

    Args:
        base: what the base's process found out.
        head: what the head's process of the same pair found out.
    """
    before = {metric.name: metric.speeds for metric in base.metrics}
    for metric in head.metrics:
        for name, speed in metric.speeds.items():
            other = before.get(metric.name, {}).get(name, speed)
            if min(speed, other) > 0 and max(speed, other) / min(speed, other) > 1 + APART:
                return True
    return False
