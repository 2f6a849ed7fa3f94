"""How sure is an accuracy, and how does a figure grow with the length of a sequence?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression


def binomial_interval(right: int, answers: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bound an accuracy exactly (Clopper and Pearson).

    Args:
        right: answers that were right.
        answers: all answers.
        confidence: that the true accuracy lies within.

    Raises:
        ValueError: counts that cannot be.
    """
    from scipy.stats import binomtest

    if not 0 <= right <= answers or not answers:
        raise ValueError(f"binomial_interval: {right} of {answers} answers cannot be right")
    interval = binomtest(right, answers).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def exponent(lengths: Sequence[float], figures: Sequence[float]) -> float:
    """Fit ``figure = c length^p`` and give p: the slope of a line through the logarithms.

    Args:
        lengths: at least two different ones.
        figures: one for each, above 0.
    """
    return linear_regression(list(map(math.log, lengths)), list(map(math.log, figures))).slope
