"""What may have caused a change? What was noted beside the figures, where it is not what the baseline's runs noted.

It is told with the verdict and never changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from perfgate.measure import notes
from perfgate.model import Baseline, CaseResult, Measurement, Verdict

#: Verdicts that a reader wants to know the cause of.
_CHANGED = frozenset({Verdict.REGRESSED, Verdict.IMPROVED, Verdict.OUTCOME_CHANGED, Verdict.STALE})
_NOTHING = "nothing noted"


def explained(result: CaseResult, baseline: Baseline | None, measurements: Sequence[Measurement]) -> CaseResult:
    """Give a result its notes, and name those that may have caused what it says.

    Args:
        result: the verdict on the case.
        baseline: what is stored, or None.
        measurements: one a process.
    """
    now = notes.together(each.notes for each in measurements)
    result = replace(result, notes=now)
    # Without any note the baseline comes from code that noted nothing: no difference can be known.
    if result.verdict not in _CHANGED or baseline is None or not baseline.notes:
        return result
    causes = [f"possible cause: {difference}" for difference in _differences(baseline.notes, now)]
    return replace(result, reason="\n".join(filter(None, (result.reason, *causes))))


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({**before, **now}):
        old, new = before.get(name), now.get(name)
        # Fewer values than the baseline's processes noted together are no news.
        if old is None or new is None or not notes.choices(new) <= notes.choices(old):
            yield f"{name}: {old or _NOTHING} -> {new or _NOTHING}"
