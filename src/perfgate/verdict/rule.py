"""What does one look at the processes say? The decision rule on one scale, for one case or for many at once.

Every look has a baseline of n processes (normally 5) and m current ones: 1 (the screen), then 4, 8 and 12. The
estimate is the difference of the medians. Its standard error comes from the moderated deviation between processes, and
its interval from Student's t. Larger is worse throughout.

*Screen*, m = 1: UNCHANGED if the shift is inside the limit and the noise explains it, or if the shift would be inside
the limit even with all of that noise on top. Otherwise the case is undecided and repeated.

*Confirm*, m > 1: REGRESSED takes three witnesses. The estimate is beyond the limit (it matters), the interval excludes
0 (Student's t, ``ALARM``), and the exact rank test agrees (``RANK``). IMPROVED is the mirror image. UNCHANGED if an
ordinary 95 % interval lies inside the limit. At the last look also if the estimate is inside the limit and that
interval excludes a change of twice the limit; a comparison that could not even do that has not shown that nothing
changed, and is INCONCLUSIVE.

Why these levels
- 200 cases may raise a false alarm in 2 % of runs: 1e-4 a case, shared by three looks: ``ALARM`` is 3e-5 a look.
- The t test trusts the normal shape of the noise. Where processes have two modes (a core's neighbour, a memory
  layout), five fast ones and four slow ones look certain to it. The rank test knows no shape, but complete separation
  of 5 and 4 has p = 1/126, which 200 cases reach by chance. ``RANK`` is therefore 0.001, which 8 processes attain (5 v
  8: 1/1287) and 4 do not: a suspicion is confirmed after 8, unless the figure repeats exactly or no more processes
  will come, when complete separation has to do.
- One process cannot attain anything, so a screen that is also the last look leaves the rank test out. With fewer than
  4 processes the level holds for normal noise only: a screen alone raises an alarm in 22 % of suites whose noise has
  the tails of Student's t with 3 degrees of freedom (2 %, limit 2 %, 1000 simulated suites), and in all suites of two
  modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate.verdict.statistics import median_error, moderated_deviation, rank_p_value, smallest_p_value, t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Numbers of current processes after which the rule is asked, the screening one included.
TOTALS = (4, 8, 12)
#: One-sided level of the t interval that REGRESSED and IMPROVED must exclude 0 with, for each look.
ALARM = 3e-5
#: p-value that the rank test must reach.
RANK = 0.001
#: One-sided level at which noise no longer explains what a screen saw: one case in a hundred is repeated in vain.
SCREEN = 0.005
#: One-sided level of the interval that must lie inside the limit for UNCHANGED: an error here is a miss, not an alarm.
WITHIN = 0.025
#: How often a change of the detectable size is found.
POWER = 0.9
# Far below any change that matters, far above the rounding of a logarithm.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Look:
    """What one look says; every field has the leading shape of the figures. No word at all means undecided."""

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    detectable: NDArray[np.float64]
    deviation: NDArray[np.float64]
    regressed: NDArray[np.bool_]
    improved: NDArray[np.bool_]
    unchanged: NDArray[np.bool_]


def look(
    baseline: NDArray[np.float64],
    current: NDArray[np.float64],
    limit: float | NDArray[np.float64],
    prior: float | NDArray[np.float64],
    *,
    last: bool,
    alarm: float = ALARM,
    rank: float = RANK,
) -> Look:
    """Apply the rule to figures on a scale on which larger is worse and differences are changes.

    Args:
        baseline: [..., n], one value a recorded process.
        current: [..., m], one value a process of now, with the same leading shape.
        limit: [...], the allowed change, at least 0.
        prior: [...], the deviation between processes that is expected beforehand.
        last: no further process will come.
        alarm: level of the interval that must exclude 0.
        rank: p-value that the rank test must reach.
    """
    import numpy as np

    recorded, processes = baseline.shape[-1], current.shape[-1]
    estimate = np.median(current, axis=-1) - np.median(baseline, axis=-1)
    deviation, degrees = moderated_deviation(baseline, current, prior)
    error = deviation * np.hypot(median_error(recorded), median_error(processes))
    size, allowed = np.abs(estimate), limit + _ROUNDING
    screening = processes == 1 and not last
    reach = t_quantile(degrees, SCREEN if screening else alarm) * error
    low, high = estimate - reach, estimate + reach

    if screening:
        regressed = improved = np.zeros(estimate.shape, dtype=bool)
        unchanged = ((size <= allowed) & (size <= reach + _ROUNDING)) | (size + reach <= allowed)
    elif processes == 1:
        regressed, improved = (estimate > allowed) & (low > 0), (estimate < -allowed) & (high < 0)
        unchanged = size <= allowed
    else:
        exact = deviation == 0
        regressed = _ranks_agree(baseline, current, (estimate > allowed) & (low > 0), exact, rank, last=last)
        improved = _ranks_agree(-baseline, -current, (estimate < -allowed) & (high < 0), exact, rank, last=last)
        ordinary = size + t_quantile(degrees, WITHIN) * error
        unchanged = ordinary <= allowed
        if last:
            unchanged |= (size <= allowed) & (ordinary <= 2 * allowed)
        unchanged &= ~(regressed | improved)

    # What has to be cleared scatters too: the interval is as uncertain as the deviation that it is made of.
    scatter = np.hypot(error, reach / np.sqrt(2 * degrees))
    detectable = np.maximum(limit, reach) + t_quantile(degrees, 1 - POWER) * scatter
    return Look(estimate, low, high, detectable, deviation, regressed, improved, unchanged)


def _ranks_agree(
    baseline: NDArray[np.float64],
    current: NDArray[np.float64],
    suspects: NDArray[np.bool_],
    exact: NDArray[np.bool_],
    rank: float,
    *,
    last: bool,
) -> NDArray[np.bool_]:
    """Ask the rank test about those rows that are suspected to be worse."""
    import numpy as np

    attainable = smallest_p_value(baseline.shape[-1], current.shape[-1])
    agree = np.zeros(suspects.shape, dtype=bool)
    for row in map(tuple, np.argwhere(suspects)):
        level = max(rank, attainable) if last or exact[row] else rank
        # A p-value is a ratio of whole numbers; equal ones must stay equal.
        if attainable <= level:
            agree[row] = rank_p_value(baseline[row].tolist(), current[row].tolist()) <= level * (1 + 1e-9)
    return agree
