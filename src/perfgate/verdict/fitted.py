"""How strongly does a case feel each speed of the machine? Asked of base and head that ran in turn on one machine.

A duration times a speed takes for granted that the case slows down exactly as much as the reference loop does, or as
a mixture of both loops. It need not. On two virtual cores whose neighbours came and went a Python loop suffered less
than the reference loop: in four runs of 80 pairs its processes scattered by 3.0 to 3.6 % in cycles of the steadiest
mixture, and by 1.2, 1.2, 1.3 and 2.1 % with exponents fitted to them (core 0.55 to 0.93, memory -0.09 to 0.26). What
was left in cycles looked like a speed-up wherever the head had met more slow processes than the base, and hid 10 %
more work in 3 of 55 runs. On the shared pool of ``perfgate calibrate``, 12 pairs found 10 % in 59 % of comparisons,
and in 76 % with the fit.

The exponents are fitted within the sides (analysis of covariance), so that no difference between the sides is fitted
away. A machine whose speeds hardly change says little of them: then they stay near those of the steadiest mixture,
which are what is expected beforehand, with a deviation of :data:`PRIOR`. What the fit cost is paid: the values are
stretched around the median of their side by as much as the exponents used up degrees of freedom, and as their own
uncertainty counts because the machine ran at different speeds for the two sides. Where a speed differs between the
sides by much more than within them (:data:`FAR`), what was learned within is not trusted to reach that far.

The code itself may change a speed: one that fills the caches slows the memory loop beside it, by 3 % where it took 10 %
longer for it. Base and head alternate, so a speed that is another with the head in nearly every process is hardly
chance. Where that counts for as much as half the limit, the fit alone does not say UNCHANGED or IMPROVED. Beside
neighbours who come and go it cannot be seen: there code that waits for memory, and slows it as much as it takes longer,
passes for a slower machine.

Stored baselines are not judged so. Their processes are of another day, when the machine may have been slow in another
way: on the pool of ``perfgate calibrate`` a fit would have called an unchanged clone of 8 MB slower in 4 of 200 runs,
and the mixture in none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate.model import Verdict
from perfgate.verdict.rule import RANK, Look
from perfgate.verdict.speeds import DEAF, MIXTURES, SAME_CLOCK, Finding, Speed, contradicted, ran_at, remark, word
from perfgate.verdict.statistics import PRIOR_DEGREES, median_error, rank_p_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Standard deviation of a speed's exponent around the steadiest mixture's, as expected beforehand.
PRIOR = 0.5
#: Values of both sides that the fit takes at least: with fewer, there is nothing left to scatter.
LEAST = 5
#: A speed that differs between the sides by this many of its deviations within them is beyond what the fit has seen.
FAR = 3.0
# The variance that is left and the exponents depend on each other; more rounds change neither.
_ROUNDS = 4


@dataclass(frozen=True)
class Fitted:
    """Both sides at one speed of the machine, in their own unit.

    Attributes:
        base: one value a process.
        head: one value a process.
        wider: how many times as uncertain a difference of the sides is because the machine was not as fast for one as
            for the other; 1 where it was. The values are stretched by it, and so must be what is known of their noise.
        moved: names of the speeds that were another with the head in nearly every process, where that counts for as
            much as half the limit.
    """

    base: tuple[float, ...]
    head: tuple[float, ...]
    wider: float
    moved: tuple[str, ...] = ()


def fitted(
    stored: Sequence[float], current: Sequence[float], speeds: Sequence[Speed], *, noise: float, limit: float
) -> Fitted | None:
    """Give both sides at one speed of the machine, each speed as strongly as the case feels it.

    Args:
        stored: the base's values, one a process; positive.
        current: the head's.
        speeds: what both sides know of the machine.
        noise: the deviation between processes that is expected beforehand, of logarithms; 0 where nothing is.
        limit: the allowed change, of logarithms.

    Returns:
        None where there are not exactly two speeds, too few values, or nothing that scatters.
    """
    if len(speeds) != 2 or len(stored) + len(current) < LEAST:
        return None
    import numpy as np

    values = [np.log(np.asarray(side)) for side in (stored, current)]
    cycles = [[speed.values for speed in speeds], [speed.now for speed in speeds]]
    # [processes, speeds]: what a speed multiplies a value by, whichever direction is better.
    factors = [np.log(np.asarray(of_side)).T - side[:, None] for of_side, side in zip(cycles, values, strict=True)]
    fit = _fit(values, factors, noise)
    if fit is None:
        return None
    degrees = sum(map(len, values)) - 2
    apart = factors[1].mean(axis=0) - factors[0].mean(axis=0)
    error = sum(median_error(len(side)) ** 2 for side in values)
    beyond = np.abs(apart) > FAR * fit.within
    unknown = fit.inverse + np.diag(np.where(beyond, PRIOR**2 / fit.variance, 0.0))
    wider = math.sqrt(1 + float(apart @ unknown @ apart) / error)
    stretch = wider * math.sqrt(degrees / (degrees - fit.spent))

    def at_one_speed(side: NDArray[np.float64], factor: NDArray[np.float64]) -> tuple[float, ...]:
        figures = side + factor @ fit.exponents
        middle = np.median(figures)
        return tuple(np.exp(middle + stretch * (figures - middle)).tolist())

    base, head = map(at_one_speed, values, factors)
    counts = np.abs(apart * fit.exponents) > limit / 2
    moved = [each.name for number, each in enumerate(speeds) if counts[number] and _differs(factors, number)]
    return Fitted(base, head, wider, tuple(moved))


def _differs(factors: Sequence[NDArray[np.float64]], number: int) -> bool:
    """Whether chance does not explain that a speed was another for the head."""
    base, head = (side[:, number].tolist() for side in factors)
    return min(rank_p_value(base, head), rank_p_value(head, base)) <= RANK


@dataclass(frozen=True)
class _Fit:
    """Exponents of two speeds.

    Attributes:
        exponents: [2].
        inverse: [2, 2], their covariance in units of the variance.
        variance: what is left between processes, averaged with what is known beforehand.
        within: [2], deviations of the speeds within the sides.
        spent: degrees of freedom that the exponents took, 0 to 2.
    """

    exponents: NDArray[np.float64]
    inverse: NDArray[np.float64]
    variance: float
    within: NDArray[np.float64]
    spent: float


def _fit(values: Sequence[NDArray[np.float64]], factors: Sequence[NDArray[np.float64]], noise: float) -> _Fit | None:
    """Fit the exponents of the speeds to the scatter within the sides, leaning on the steadiest mixture.

    Args:
        values: logarithms, [processes] a side.
        factors: logarithms, [processes, 2] a side.
        noise: the deviation between processes that is expected beforehand.

    Returns:
        None where neither the values scatter nor noise is known.
    """
    import numpy as np

    scatter = np.concatenate([side - side.mean() for side in values])
    felt = np.concatenate([side - side.mean(axis=0) for side in factors])
    degrees = len(scatter) - 2

    def left(exponents: NDArray[np.float64]) -> float:
        rest = scatter + felt @ exponents
        return float(rest @ rest)

    expected = min((np.array([share, 1 - share]) for share in MIXTURES), key=left)
    square = felt.T @ felt
    known = PRIOR_DEGREES if noise > 0 else 0
    exponents, spent = expected, 0.0
    for _ in range(_ROUNDS):
        squares = left(exponents)
        averaged = (squares + known * noise**2) / (degrees - spent + known)
        variance = max(averaged, squares / (degrees - spent))
        if variance == 0:
            return None
        inverse = np.linalg.pinv(square + variance / PRIOR**2 * np.eye(2))
        exponents = expected - inverse @ felt.T @ (scatter + felt @ expected)
        spent = float(np.trace(square @ inverse))
    return _Fit(exponents, inverse, variance, np.sqrt(np.diag(square) / degrees), spent)


def by_fit(
    seconds: Look,
    views: Sequence[Look],
    fit: Look,
    about: Fitted,
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
        about: what it gave.
        speeds: the speeds, in the order of the views.
        limit: the allowed change, on the scale of the looks.
        say: writes a difference on that scale as a change.
        last: no further process will come.
    """
    verdict = word(fit)
    # As steady as the case is, not as uncertain as the sides' different speeds make their difference.
    steady = DEAF * fit.deviation / about.wider
    named = [
        ("seconds", seconds),
        *((f"cycles of the {speed.name}", view) for speed, view in zip(speeds, views, strict=True)),
    ]
    heard = [(name, view) for name, view in named if view.deviation < steady]
    against = [(name, view) for name, view in heard if contradicted(verdict, [view], limit)]
    hidden = about.moved if verdict in (Verdict.UNCHANGED, Verdict.IMPROVED) else ()
    if verdict is not Verdict.INCONCLUSIVE and not against and not hidden:
        return Finding(verdict, fit, note=remark(speeds))

    slower = seconds.estimate > limit and any(speed.ratio <= 1 - SAME_CLOCK for speed in speeds)
    if last and slower and fit.estimate <= limit:
        return Finding(Verdict.THROTTLED, seconds, f"slower in seconds, but {ran_at(speeds)}")
    if verdict is Verdict.INCONCLUSIVE:
        return Finding(Verdict.INCONCLUSIVE, fit, note=remark(speeds))
    change = f"at one speed the change is {say(float(fit.estimate))}"
    if against:
        others = " and ".join(f"{say(float(view.estimate))} in {name}" for name, view in against)
        return Finding(Verdict.INCONCLUSIVE, fit, f"{ran_at(speeds)}; {change}, but {others}")
    names = " and ".join(hidden)
    why = f"{ran_at(speeds)}, another {names} speed in nearly every process, which the code itself may have caused"
    return Finding(Verdict.INCONCLUSIVE, fit, f"{why}; {change}")
