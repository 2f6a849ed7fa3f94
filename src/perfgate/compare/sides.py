"""What does one case of one run say beside the same case of another? Ratios, and words where the machine is the same.

The two runs are A and B; a ratio is B's figure divided by A's. Its interval comes from the spread between processes of
both runs and of the baselines they were compared with, at the gate's own level (:mod:`perfgate.verdict.rule`).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from perfgate.model import SEVERITY, CaseResult, Limit, MetricVerdict, Noise, Outcome, Run, Verdict
from perfgate.report.words import broke
from perfgate.static.targets import KEY_PREFIX


@dataclass(frozen=True)
class Row:
    """One metric of one case in both runs.

    Args:
        case: node id.
        key_a: hardware key of A's figure.
        key_b: hardware key of B's.
        metric: name; "" where a case did not finish in one of the runs, or has no figure.
        unit: of both figures.
        a: A's figure, or None.
        b: B's figure, or None.
        ratio: B's divided by A's; None where one of them is missing, 0 or negative.
        low: lower bound of the ratio; None where nothing is known of the spread between processes.
        high: upper bound of the ratio.
        verdict: on B against A; None where the hardware is not the same, or nothing allows one.
        told: what else there is to say: outcomes, another method.
    """

    case: str
    key_a: str
    key_b: str
    metric: str = ""
    unit: str = ""
    a: float | None = None
    b: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict | None = None
    told: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side: the worst rows first, and the cases that are in one of them only."""

    rows: tuple[Row, ...]
    only_a: tuple[CaseResult, ...]
    only_b: tuple[CaseResult, ...]
    software: tuple[str, ...]


def compare(a: Run, b: Run) -> Comparison:
    """Put two runs side by side.

    A case is compared with itself on the same hardware; where no hardware of it is in both runs, with itself on the
    other one.
    """
    pairs, only_a, only_b = _pairs(_ran(a), _ran(b))
    rows = [row for one, other in pairs for row in _rows(one, other)]
    order = {case: place for place, case in enumerate(dict.fromkeys(row.case for row in rows))}
    worst: dict[str, tuple[int, float]] = {}
    for row in rows:
        place = (_rank(row), -_distance(row))
        worst[row.case] = min(worst.get(row.case, place), place)
    rows.sort(key=lambda row: (worst[row.case], order[row.case], _rank(row), -_distance(row)))
    return Comparison(tuple(rows), tuple(only_a), tuple(only_b), tuple(_software(a, b)))


def _rank(row: Row) -> int:
    return SEVERITY.index(row.verdict) if row.verdict is not None else SEVERITY.index(Verdict.NEW)


def _distance(row: Row) -> float:
    """Say how far apart two figures are, where that is a change for better or worse."""
    judged = row.verdict in (Verdict.REGRESSED, Verdict.IMPROVED)
    return abs(math.log(row.ratio)) if judged and row.ratio else 0.0


def _ran(run: Run) -> dict[tuple[str, str], CaseResult]:
    """Give the cases that are there: a removed one is known from its baseline only, a skipped one says nothing."""
    absent = {Verdict.REMOVED}
    return {
        (result.case, result.key): result
        for result in run.results
        if result.verdict not in absent and result.outcome is not Outcome.SKIPPED
    }


def _pairs(
    a: dict[tuple[str, str], CaseResult], b: dict[tuple[str, str], CaseResult]
) -> tuple[list[tuple[CaseResult, CaseResult]], list[CaseResult], list[CaseResult]]:
    pairs = [(a[place], b[place]) for place in a if place in b]
    rest_a, rest_b = ({place: side[place] for place in side if place not in other} for side, other in ((a, b), (b, a)))
    keys_a, keys_b = (Counter(case for case, _ in rest) for rest in (rest_a, rest_b))
    of_b = {place[0]: place for place in rest_b}
    only_a = []
    for (case, _), result in rest_a.items():
        if keys_a[case] == keys_b[case] == 1:
            pairs.append((result, rest_b.pop(of_b[case])))
        else:
            only_a.append(result)
    return pairs, only_a, list(rest_b.values())


def _rows(a: CaseResult, b: CaseResult) -> Iterator[Row]:
    same = a.key == b.key
    if broke(a) or broke(b) or not (a.metrics or b.metrics):
        told = _outcomes(a, b)
        changed = same and a.outcome is not b.outcome
        better = b.outcome is Outcome.PASSED
        verdict = None if not same else Verdict.UNCHANGED
        if changed:
            verdict = Verdict.IMPROVED if better else Verdict.OUTCOME_CHANGED
        yield Row(a.case, a.key, b.key, verdict=verdict, told=told)
        return
    method = _method(a, b)
    ones, others = ({metric.name: metric for metric in side.metrics} for side in (a, b))
    for name in {**ones, **others}:
        one, other = ones.get(name), others.get(name)
        if one is None or other is None or one.unit != other.unit:
            known = one or other
            assert known is not None
            told = "another unit" if one and other else f"only in {'A' if one else 'B'}"
            yield Row(a.case, a.key, b.key, name, known.unit, one.value if one else None,
                      other.value if other and not one else None, told=told)  # fmt: skip
        else:
            yield _figures(a, b, one, other, same, method)


def _outcomes(a: CaseResult, b: CaseResult) -> str:
    one, other = (side.outcome.value.replace("_", " ") for side in (a, b))
    return f"{one} -> {other}" if one != other else one


def _method(a: CaseResult, b: CaseResult) -> str:
    """Name what was measured otherwise; nothing where one side does not say how."""
    if not a.method or not b.method:
        return ""
    names = (name for name in sorted({**a.method, **b.method}) if a.method.get(name) != b.method.get(name))
    return ", ".join(f"{name} {a.method.get(name, 'not known')} -> {b.method.get(name, 'not known')}" for name in names)


def _figures(a: CaseResult, b: CaseResult, one: MetricVerdict, other: MetricVerdict, same: bool, method: str) -> Row:
    """Compare one metric of both sides."""
    row = Row(a.case, a.key, b.key, one.name, one.unit, one.value, other.value, told=method)
    values_a, values_b = (side.values or (side.value,) for side in (one, other))
    if not all(map(math.isfinite, (*values_a, *values_b))):
        return row
    ratio = other.value / one.value if one.value > 0 and other.value > 0 else None
    row = replace(row, ratio=ratio)
    compiled = same and a.key.startswith(KEY_PREFIX)
    if same and not method and one.value == other.value:
        row = replace(row, verdict=Verdict.UNCHANGED)
    # Figures of compiled code repeat exactly, and no limit allows them anything.
    spread = 0.0 if compiled else _spread((one.baseline_values, other.baseline_values), (values_a, values_b))
    if spread is None:
        return row
    from perfgate.verdict import scale as scales
    from perfgate.verdict.rule import look

    limit = next((each.limit for each in (other, one) if each.limit is not None), 0.0 if compiled else None)
    allowed = Limit() if limit is None else Limit(limit) if other.relative else Limit(0.0, limit)
    middle = abs(statistics.median(values_a))
    scale = scales.of(
        values_a, values_b, higher=other.better == "higher", limit=allowed,
        noise=Noise(spread) if middle else Noise(),
    )  # fmt: skip
    found = look(scale.figures(values_a), scale.figures(values_b), scale.limit, scale.prior, last=True)
    low, high = sorted((scale.change(float(found.low)), scale.change(float(found.high))))
    if scale.relative:
        row = replace(row, low=1 + low, high=1 + high)
    if not same or limit is None or method or row.verdict is not None:
        return row
    verdict = Verdict.INCONCLUSIVE
    for word, says in (
        (Verdict.REGRESSED, found.regressed), (Verdict.IMPROVED, found.improved), (Verdict.UNCHANGED, found.unchanged)
    ):  # fmt: skip
        if bool(says):
            verdict = word
            break
    return replace(row, verdict=verdict)


def _spread(baselines: Iterable[Sequence[float]], values: Iterable[Sequence[float]]) -> float | None:
    """Give the deviation between processes that the baselines show, as a share; None where nothing shows any.

    The values themselves are weighed by the rule.
    """
    known = [each for each in dict.fromkeys(map(tuple, baselines)) if len(each) > 1 and min(each) > 0]
    squares = degrees = 0.0
    for each in known:
        logs = [math.log(value) for value in each if math.isfinite(value)]
        if len(logs) > 1:
            squares += statistics.variance(logs) * (len(logs) - 1)
            degrees += len(logs) - 1
    if degrees:
        return math.sqrt(squares / degrees)
    return 0.0 if any(len(each) > 1 for each in values) else None


def _software(a: Run, b: Run) -> Iterator[str]:
    """Name each version that differs."""
    for name in sorted({**a.software, **b.software}):
        one, other = a.software.get(name, "not there"), b.software.get(name, "not there")
        if one != other:
            yield f"{name} {one} -> {other}"
