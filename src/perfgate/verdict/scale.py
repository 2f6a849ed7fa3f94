"""On which scale are a metric's values compared? Logarithms where all are positive, plain differences otherwise.

On either scale larger is worse and 0 is no change. A limit of 10 % is 10 % of the baseline in the direction of worse,
and the same distance in the direction of better: 10 % more time against 1/1.1 of it, 10 % less throughput against
1/0.9.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate.model import Limit, Noise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Scale:
    """Turns a metric's values into figures for the rule, and the rule's figures into changes.

    Attributes:
        relative: changes are shares of the baseline, not amounts in the metric's unit.
        sign: 1 where lower is better, -1 where higher is.
        size: what a difference is divided by, so that the rule sees figures around 1 in every unit.
        limit: the allowed change, as the rule sees it.
        prior: the expected deviation between processes, as the rule sees it.
        allowed: the allowed change, as a user reads it.
    """

    relative: bool
    sign: int
    size: float
    limit: float
    prior: float
    allowed: float

    def figures(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Give the values, [n], as the rule sees them."""
        import numpy as np

        plain = np.asarray(values, dtype=float)
        return self.sign * (np.log(plain) if self.relative else plain / self.size)

    def change(self, figure: float) -> float:
        """Give a difference between figures as a change of the value: a share, or an amount in the metric's unit."""
        if not self.relative:
            return self.sign * figure * self.size
        exponent = self.sign * figure
        return math.expm1(exponent) if exponent < 700 else math.inf


def of(stored: Sequence[float], current: Sequence[float], *, higher: bool, limit: Limit, noise: Noise) -> Scale:
    """Choose the scale for a metric.

    Args:
        stored: the baseline's values.
        current: the values of now.
        higher: whether more is better.
        limit: the allowed change.
        noise: what is known beforehand of the spread between processes.
    """
    baseline = statistics.median(stored)
    sign = -1 if higher else 1
    allowed = limit.of(baseline)
    if min(*stored, *current) > 0:
        share = allowed / baseline
        worst = sign * share
        distance = abs(math.log1p(worst)) if worst > -1 else math.inf
        return Scale(True, sign, 1.0, distance, noise.of(baseline) / baseline, share)
    size = max(map(abs, (*stored, *current))) or 1.0
    return Scale(False, sign, size, allowed / size, noise.of(baseline) / size, allowed)
