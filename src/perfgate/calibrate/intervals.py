"""How far may a measured rate be from the true one? Clopper-Pearson, on as many comparisons as are really distinct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """How often something happened.

    Attributes:
        events: how often, over all that was drawn.
        drawn: comparisons that were made; they share processes.
        distinct: as how many independent comparisons they count.
        low: lower end of the 95 % interval.
        high: its upper end.
    """

    events: int
    drawn: int
    distinct: float
    low: float
    high: float

    @property
    def share(self) -> float:
        """Give the rate itself; not a number where nothing was drawn."""
        return self.events / self.drawn if self.drawn else float("nan")


def rate(events: int, drawn: int, distinct: float) -> Rate:
    """Bound a rate.

    Comparisons that are drawn from one pool share processes, so their number says nothing about certainty. Each has a
    process that its verdict starts from, the screening one, and there are only so many of those: the interval is that
    of the same rate seen in ``distinct`` independent comparisons.

    Args:
        events: how often it happened.
        drawn: comparisons that were made.
        distinct: independent comparisons that they are worth, at most ``drawn``.
    """
    if drawn == 0 or distinct <= 0:
        return Rate(events, drawn, distinct, 0.0, 1.0)
    worth = min(distinct, drawn)
    return Rate(events, drawn, worth, *clopper_pearson(events / drawn * worth, worth))


def together(rates: Sequence[Rate]) -> Rate:
    """Bring the rates of several cases together; each is worth its own independent comparisons."""
    events, drawn = sum(each.events for each in rates), sum(each.drawn for each in rates)
    return rate(events, drawn, sum(each.distinct for each in rates if each.drawn))


def clopper_pearson(events: float, number: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Give the exact interval of a binomial proportion; a fraction of an event is allowed.

    Args:
        events: successes.
        number: trials.
        confidence: of the two-sided interval.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(events, number - events + 1, tail)) if events > 0 else 0.0
    high = float(betaincinv(events + 1, number - events, 1 - tail)) if events < number else 1.0
    return low, high
