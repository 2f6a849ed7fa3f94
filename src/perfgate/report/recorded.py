"""What do stored baselines say, read as the results of a run? Their medians; what a case only reports is not stored."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from perfgate.baseline.store import BaselineStore
from perfgate.model import Baseline, CaseResult, MetricVerdict, Outcome, Verdict


def results(folder: Path) -> tuple[list[CaseResult], list[str]]:
    """Read all baselines of one kind of hardware.

    Args:
        folder: such as ``baselines/nvidia-h200``; its name is the hardware key.

    Returns:
        A result a baseline that can be used, and what is wrong with the others, a line each.

    Raises:
        BaselineError: the folder cannot be read, or its name is no key.
    """
    folder = folder.resolve()
    store, key = BaselineStore(folder.parent), folder.name
    found: list[CaseResult] = []
    problems: list[str] = []
    for module in store.modules(key):
        loaded = store.load(key, module)
        problems += map(str, loaded.damages)
        found += [_result(f"{module}.py::{name}", key, baseline) for name, baseline in loaded.cases.items()]
    return found, problems


def _result(case: str, key: str, baseline: Baseline) -> CaseResult:
    metrics = [
        MetricVerdict(each.name, each.unit, median(each.values), Verdict.UNCHANGED, each.better)
        for each in baseline.metrics
    ]
    ended = baseline.outcome is not Outcome.PASSED
    return CaseResult(
        case,
        key,
        Verdict.UNCHANGED,
        baseline.outcome,
        reason="so its baseline says" if ended else "",
        metrics=tuple(metrics),
        method=baseline.method,
    )
