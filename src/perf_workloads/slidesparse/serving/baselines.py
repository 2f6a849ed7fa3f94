"""Which baselines do the cases of serving get from stored results, and which results are none, and why?

A baseline is what stands of a point, one process, where the case itself would measure that: failures, rates of other
numbers of passes or other options of the engine, and results without their software are left out. Imports nothing
heavy.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perf_workloads.slidesparse.serving import campaign, comparison, models, results, workloads
from perf_workloads.slidesparse.serving.results import Key, Record
from perfgate.baseline import to_baseline
from perfgate.errors import RunFileError
from perfgate.model import Baseline, Measurement, Metric

#: The module of the cases, below pytest's root.
MODULE = "perf_tests/slidesparse/test_serving"


@dataclass(frozen=True)
class Found:
    """What results come to.

    Attributes:
        baselines: by case.
        left: cases without one, by reason.
    """

    baselines: Mapping[str, Baseline]
    left: Mapping[str, Sequence[str]]


def case(key: Key) -> str:
    """Name the case of a point, as its module does."""
    return f"test_serving[{key.model}-{key.scheme}-{key.stage}-{key.tokens}]"


def of_device(path: Path, device: str) -> list[Record]:
    """Read the results of a device.

    Raises:
        RunFileError: there are none, or the file cannot be read.
    """
    records = results.read(path)
    again = f"perfgate-slidesparse serve --results {path}"
    if not records:
        raise RunFileError(f"{path}: no results, so there is nothing to make baselines of", hint=again)
    found = [record for record in records if record.key.device == device]
    if not found:
        others = ", ".join(sorted({record.key.device for record in records}))
        raise RunFileError(
            f"{path}: no results of {device}; it has those of {others}", hint="give --device, or " + again
        )
    return found


def make(records: Iterable[Record], stored: Mapping[str, Baseline]) -> Found:
    """Make the baselines of a device's points.

    Args:
        records: of one device, in the order in which they were written.
        stored: baselines that there are. One that is newer than a point's last result stays.
    """
    made: dict[str, Baseline] = {}
    left: dict[str, list[str]] = defaultdict(list)
    for key, stands in results.standing(records).items():
        name = case(key)
        reason = _why_none(stands)
        if not reason and name in stored and _newer(stored[name].date, stands.when):
            reason = "their baselines are newer"
        if reason:
            left[reason].append(name)
            continue
        made[name] = to_baseline([_measurement(name, stands)], commit=stands.commit, date=stands.when)
    return Found(made, left)


def _why_none(record: Record) -> str:
    """Say why a result cannot be the baseline of its case; "" if it can."""
    key, figures, settings = record.key, record.figures, campaign.CASES
    if key.model not in models.PUBLISHED or key.scheme not in models.IN_CASES or key.point not in workloads.POINTS:
        return "there is no such case"
    if not record.ok:
        return f"{record.outcome.value.replace('_', ' ')}: {record.cause}"
    wanted = settings.passes_of(key.point) if key.stage == "prefill" else settings.new_tokens
    if figures.get("passes") != wanted:
        how = f"--most-tokens {settings.most_tokens}" if key.stage == "prefill" else f"--new-tokens {wanted}"
        return f"{figures.get('passes', 0):g} passes, where the case has {wanted}: serve --again {how}"
    if record.fact("options"):
        return f"run with other options than the case: {record.fact('options')}"
    if record.fact("graph_mode") == "NONE":
        return "run without graphs, which the case has: serve --again without --eager"
    if not record.environment:
        return (
            "its driver, CUDA, torch, triton and Python are not stored, so that another one could not make the "
            "baseline STALE: serve --again stores them"
        )
    return ""


def _measurement(name: str, record: Record) -> Measurement:
    """Give a result as the process that measured it would have, had it been a case."""
    rate = comparison.rate(record)
    assert rate is not None
    judged = Metric(f"{comparison.judged(record.key.stage)}_rate", comparison.UNIT, rate, "higher")
    return Measurement(name, record.key.device, metrics=(judged,), environment=record.environment, notes=record.facts)


def _newer(date: str, when: str) -> bool:
    """Whether a baseline is newer than a result; one whose date cannot be read is not."""
    try:
        return datetime.datetime.fromisoformat(date) > datetime.datetime.fromisoformat(when)
    except (ValueError, TypeError):
        return False
