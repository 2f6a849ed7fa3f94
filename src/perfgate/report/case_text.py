"""What does a failing test say about its own performance? The text that pytest, JUnit and ``-rA`` show on it."""

from __future__ import annotations

from perfgate import outcomes
from perfgate.model import FAILING, FAILING_STRICT, CaseResult, MetricVerdict, Verdict
from perfgate.report import hints, words
from perfgate.report.terminal import reasons
from perfgate.units import NOTHING, count, figures

_INDENT = "  "
_FIRST = {
    Verdict.REGRESSED: "performance regressed",
    Verdict.IMPROVED: "performance improved",
    Verdict.UNCHANGED: "performance unchanged",
    Verdict.INCONCLUSIVE: "performance inconclusive",
    Verdict.THROTTLED: "performance throttled",
    Verdict.STALE: "baseline stale",
    Verdict.NEW: "no baseline",
    Verdict.REMOVED: "case removed",
    Verdict.CORRUPT: "baseline corrupt",
    Verdict.OUTCOME_CHANGED: "outcome changed",
    Verdict.SKIPPED: "skipped",
}


def failure(result: CaseResult, strict: bool = False, folder: str = ".", base: str = "") -> str:
    """Write why a case failed: the figures that decided in the first line, then the others, the reason and a hint.

    Args:
        result: the case.
        strict: whether ``--perf-strict`` is on; said where it alone makes the verdict a failure.
        folder: path of pytest's root from where the user will type what is hinted at.
        base: the ref that the case was compared with; "" for a stored baseline.
    """
    metrics = [] if words.broke(result) else list(result.metrics)
    told = reasons(result)
    # A damaged baseline is told by what is damaged, whatever the figures are.
    judged = [metric for metric in metrics if metric.verdict is result.verdict is not Verdict.CORRUPT]
    decisive = judged[0] if judged else None
    if decisive is not None:
        fact = figures_line(decisive, result.processes)
        metrics.remove(decisive)
    elif result.verdict is Verdict.OUTCOME_CHANGED:
        fact = f"now {outcomes.words(result.outcome)}"
    else:
        fact = told.pop(0) if told else outcomes.words(result.outcome)
    lines = [f"{_FIRST[result.verdict]}: {fact}"]
    lines += [f"{_INDENT}{figures_line(metric)}: {words.verdict(metric.verdict)}" for metric in metrics]
    lines += [f"{_INDENT}{reason}" for reason in told]
    if strict and result.verdict in FAILING_STRICT - FAILING:
        lines.append(f"{_INDENT}it fails because of --perf-strict")
    lines.append(f"{_INDENT}hardware: {result.key}")
    next_steps = (
        hints.for_sides(result.verdict, [result], base, folder)
        if base
        else hints.for_cases(result.verdict, [result], folder=folder)
    )
    lines += [f"{hints.HINT}{hint}" for hint in next_steps]
    return "\n".join(lines)


def figures_line(metric: MetricVerdict, processes: int = 0) -> str:
    """Write one metric in one line, e.g. ``device_time 30.0 us -> 31.2 us (+4.0 %, [+3.1 %, +4.9 %], limit 2 %)``.

    A change that is not that of the values stands with them: ``wall_time 2.21 ms -> 2.13 ms, +10.6 % in cycles of the
    machine, which ran at about 115 % ([+8.1 %, +13.2 %], limit 10 %)``.
    """
    text = figures(metric)
    values = text.value if text.baseline == NOTHING else f"{text.baseline} -> {text.value}"
    told = words.in_cycles(metric)
    if told:
        values = f"{values}, {text.change} {told}"
    facts = [fact for fact in ("" if told else text.change, text.interval) if fact not in ("", NOTHING)]
    if text.limit != NOTHING:
        facts.append(f"limit {text.limit}")
    if processes:
        facts.append(count(processes, "process", "processes"))
    return f"{metric.name} {values}" + (f" ({', '.join(facts)})" if facts else "")
