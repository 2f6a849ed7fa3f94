"""How strongly does a case feel each speed of the machine? Asked of base and head that ran in turn on one machine.

A duration times a speed takes for granted that the case slows down exactly as much as the reference loop does, or as a
mixture of both loops. It need not. On two virtual cores whose neighbours came and went a Python loop suffered less than
the reference loop: over 80 pairs its processes scattered by 3.0 to 3.4 % in cycles of the steadiest mixture, and by 1.2
to 1.3 % with exponents fitted to them (core 0.8 to 0.9, memory -0.1 to 0). What was left in cycles looked like a
speed-up wherever the head had met more slow processes than the base, and hid 10 % more work in 3 of 55 runs. Of the
shared pool of ``perfgate calibrate``, 12 pairs found 10 % in 59 % of comparisons, and in 75 % with the fit.

The exponents are fitted within the sides (analysis of covariance), so that no difference between the sides is fitted
away. A machine whose speeds hardly change says little of them: then they stay at those of the steadiest mixture, which
are what is expected beforehand, with a deviation of :data:`PRIOR`. What the fit cost is paid: the values are stretched
around the median of their side by as much as the exponents used up degrees of freedom, and as their own uncertainty
counts because the machine ran at different speeds for the two sides. Where one side alone met a slow machine nothing
is known of the exponents, and the stretched values say so.

Stored baselines are not judged so. Their processes are of another day, when the machine may have been slow in another
way: on the pool of ``perfgate calibrate`` the fit would have called 2 of 100 runs with an unchanged clone of 8 MB
slower, and the mixture none (README, "How often is the gate wrong?").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate.model import Verdict
from perfgate.verdict.rule import Look
from perfgate.verdict.speeds import DEAF, MIXTURES, Finding, Speed, contradicted, disputed, remark, word
from perfgate.verdict.statistics import median_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Standard deviation of a speed's exponent around the steadiest mixture's, as expected beforehand.
PRIOR = 0.5
#: Values of both sides that the fit takes at least: with fewer, there is nothing left to scatter.
LEAST = 5


@dataclass(frozen=True)
class Fitted:
    """Both sides at one speed of the machine, in their own unit.

    Attributes:
        base: one value a process.
        head: one value a process.
        wider: how many times as uncertain a difference of the sides is because the machine was not as fast for one as
            for the other; 1 where it was. The values are stretched by it, and so must be what is known of their noise.
    """

    base: tuple[float, ...]
    head: tuple[float, ...]
    wider: float


def fitted(stored: Sequence[float], current: Sequence[float], speeds: Sequence[Speed]) -> Fitted | None:
    """Give both sides at one speed of the machine, each speed as strongly as the case feels it.

    Args:
        stored: the base's values, one a process; positive.
        current: the head's.
        speeds: what both sides know of the machine.

    Returns:
        None where there are not exactly two speeds, or too few values.
    """
    if len(speeds) != 2 or len(stored) + len(current) < LEAST:
        return None
    import numpy as np

    values = [np.log(np.asarray(side)) for side in (stored, current)]
    cycles = [[speed.values for speed in speeds], [speed.now for speed in speeds]]
    # [processes, speeds]: what a speed multiplies a value by, whichever direction is better.
    factors = [np.log(np.asarray(of_side)).T - side[:, None] for of_side, side in zip(cycles, values, strict=True)]
    exponents, inverse, spent = _fit(values, factors)

    degrees = sum(map(len, values)) - 2
    apart = factors[1].mean(axis=0) - factors[0].mean(axis=0)
    error = sum(median_error(len(side)) ** 2 for side in values)
    wider = math.sqrt(1 + float(apart @ inverse @ apart) / error)
    stretch = wider * math.sqrt(degrees / (degrees - spent))

    def at_one_speed(side: NDArray[np.float64], factor: NDArray[np.float64]) -> tuple[float, ...]:
        figures = side + factor @ exponents
        middle = np.median(figures)
        return tuple(np.exp(middle + stretch * (figures - middle)).tolist())

    base, head = map(at_one_speed, values, factors)
    return Fitted(base, head, wider)


def _fit(
    values: Sequence[NDArray[np.float64]], factors: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Fit the exponents of the speeds to the scatter within the sides, leaning on the steadiest mixture.

    Args:
        values: logarithms, [processes] a side.
        factors: logarithms, [processes, 2] a side.

    Returns:
        The exponents, [2]; their covariance in units of the variance that is left, [2, 2]; and how many degrees of
        freedom they took, 0 to 2.
    """
    import numpy as np

    scatter = np.concatenate([side - side.mean() for side in values])
    felt = np.concatenate([side - side.mean(axis=0) for side in factors])

    def left(exponents: NDArray[np.float64]) -> float:
        rest = scatter + felt @ exponents
        return float(rest @ rest)

    expected = min((np.array([share, 1 - share]) for share in MIXTURES), key=left)
    square = felt.T @ felt
    ridge = left(expected) / (len(scatter) - 2) / PRIOR**2
    inverse = np.linalg.pinv(square + ridge * np.eye(2))
    exponents = expected - inverse @ felt.T @ (scatter + felt @ expected)
    return exponents, inverse, float(np.trace(square @ inverse))


def by_fit(
    seconds: Look,
    views: Sequence[Look],
    fit: Look,
    speeds: Sequence[Speed],
    limit: float,
    say: Callable[[float], str],
    *,
    last: bool,
) -> Finding:
    """Judge a metric by the fit, unless a view that is about as steady contradicts it.

    The views decide nothing here: where one side alone met a slow machine they agree on what is not so.

    Args:
        seconds: the look at the plain values.
        views: one look a speed, at the values in its cycles.
        fit: the look at what :func:`fitted` gave.
        speeds: the speeds, in the order of the views.
        limit: the allowed change, on the scale of the looks.
        say: writes a difference on that scale as a change.
        last: no further process will come.
    """
    verdict = word(fit)
    heard = [view for view in (seconds, *views) if view.deviation < DEAF * fit.deviation]
    if verdict is not Verdict.INCONCLUSIVE and not contradicted(verdict, heard, limit):
        return Finding(verdict, fit, note=remark(speeds))
    if {word(view) for view in views} == {Verdict.INCONCLUSIVE}:
        return Finding(Verdict.INCONCLUSIVE, fit, note=remark(speeds))
    return disputed(seconds, views, fit, speeds, limit, say, last=last)
