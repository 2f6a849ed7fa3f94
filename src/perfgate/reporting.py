"""How does a verdict get onto a test's own reports? It travels with them, and what fails the gate fails the test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from perfgate import outcomes
from perfgate.model import CaseResult, Outcome, Verdict
from perfgate.replicate.wire import result_to_json


def put_on(
    reports: Sequence[pytest.TestReport],
    result: CaseResult,
    *,
    compare: bool,
    strict: bool,
    folder: str,
    base: str = "",
) -> CaseResult:
    """Put the verdict on a test's reports.

    Args:
        reports: of its phases; changed in place.
        result: the verdict.
        compare: whether the run judges; otherwise no verdict fails.
        strict: whether ``--perf-strict`` is on.
        folder: path of pytest's root from where the user will type what is hinted at.
        base: the ref that the case was compared with; "" for a stored baseline.

    Returns:
        The result, which knows now whether it fails its test.
    """
    from perfgate.report import case_text
    from perfgate.verdict.case import fails

    result = replace(result, failed=compare and fails(result.verdict, strict))
    judged = next((report for report in reports if report.when == "call"), reports[0])
    known = result.verdict is Verdict.UNCHANGED and result.outcome not in (Outcome.PASSED, Outcome.SKIPPED)
    if known and judged.failed:
        judged.outcome = "skipped"
        judged.wasxfail = f"known outcome: {outcomes.words(result.outcome)}"
    elif result.failed and judged.failed:
        judged.sections.append(("perfgate", case_text.failure(result, strict, folder, base)))
    elif result.failed:
        # A launcher that refuses a device skips its test; one that did not refuse it before has changed.
        judged.outcome = "failed"
        judged.longrepr = case_text.failure(result, strict, folder, base)
    # Through JSON, so that a worker can send it: only plain values travel.
    judged.perfgate = json.loads(json.dumps(result_to_json(result)))  # type: ignore[attr-defined]
    judged.user_properties.append(("perfgate", result.verdict.value))
    return result
