"""What does the end of a test run show? Lines of text that read well without colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perfgate import outcomes
from perfgate.model import FAILING, FAILING_STRICT, CaseResult, MetricVerdict, Outcome, Run, Verdict
from perfgate.report import hints, words
from perfgate.report.table import Column, Layout, layout
from perfgate.report.throughput import throughput
from perfgate.units import NOTHING, condition, count, figures, quantity

#: At normal verbosity no more cases of one verdict are shown, unless they fail the run.
MOST = 20

_INDENT = "    "
_COLUMNS = (
    Column("case", figures=False),
    Column("metric", figures=False),
    Column("baseline"),
    Column("now"),
    Column("change"),
    Column("interval"),
    Column("limit"),
    Column("processes"),
    Column("verdict", figures=False),
    Column("throughput", figures=False),
)
# Verdicts whose cause lies in the machine: what it did meanwhile is shown with them.
_OF_THE_MACHINE = frozenset({Verdict.THROTTLED, Verdict.INCONCLUSIVE})


@dataclass(frozen=True)
class Line:
    """One line and how pytest's terminal writer marks it: ``terminal.write_line(line.text, **line.markup)``."""

    text: str
    markup: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    """The cases of one verdict that are shown, and how many more there are."""

    word: str
    verdict: Verdict
    cases: tuple[CaseResult, ...]
    more: int
    fails: bool

    @property
    def markup(self) -> Mapping[str, bool]:
        if self.fails:
            return {"red": True, "bold": True}
        if self.verdict in (Verdict.UNCHANGED, Verdict.SKIPPED):
            return {"bold": True}
        return {"green": True, "bold": True} if self.verdict is Verdict.IMPROVED else {"yellow": True, "bold": True}


def lines(run: Run, verbosity: int = 0, strict: bool = False, folder: str = ".") -> Iterator[Line]:
    """Tell a finished run: one line when nothing changed, otherwise what did.

    Args:
        run: the run.
        verbosity: from 1 up every case is shown with its throughput, from 2 up with its method and conditions.
        strict: whether the run was judged under ``--perf-strict``.
        folder: path of pytest's root from where the user will type what is hinted at.
    """
    groups = list(_groups(run, verbosity, strict))
    if run.compared:
        yield Line(words.compared(run), _headline_markup(run, groups))
        if recorded := words.recorded(run):
            yield Line(recorded)
    else:
        yield Line(words.only_recorded(run))
    if verbosity >= 1:
        yield from (Line(f"{_INDENT}{file}") for file in run.files)
    yield from map(Line, run.remarks)
    yield from _table(groups, verbosity, words.base(run))
    yield from (Line(f"problem: {problem}", {"red": True}) for problem in run.problems)
    shown = run.unused if verbosity >= 1 else run.unused[:MOST]
    yield from (Line(f"unused baseline: {file}", {"yellow": True}) for file in shown)
    if len(run.unused) > len(shown):
        yield Line(_more(len(run.unused) - len(shown)))
    yield from (Line(f"{hints.HINT}{hint}") for hint in hints.for_run(run, folder))


def _groups(run: Run, verbosity: int, strict: bool) -> Iterator[_Group]:
    """Give the cases to show, the most severe first."""
    failing = (FAILING_STRICT if strict else FAILING) if run.compared else frozenset()
    shown = [result for result in run.results if verbosity >= 1 or _worth_a_row(result, run.compared)]
    for word, cases in words.by_verdict(shown).items():
        verdict = cases[0].verdict
        most = len(cases) if verbosity >= 1 or verdict in FAILING else MOST
        fails = verdict in failing or any(result.failed for result in cases)
        yield _Group(word, verdict, tuple(cases[:most]), len(cases) - len(cases[:most]), fails)


def _worth_a_row(result: CaseResult, compared: bool) -> bool:
    """Tell whether a case is shown at normal verbosity."""
    if compared:
        return result.verdict not in (Verdict.UNCHANGED, Verdict.SKIPPED) or words.not_judged(result)
    # A recording tells what went wrong, and where the new baseline departs from the old one.
    wrong = words.broke(result) and result.outcome is not Outcome.UNSUPPORTED
    return result.verdict in FAILING or result.verdict is Verdict.IMPROVED or wrong


def _headline_markup(run: Run, groups: Sequence[_Group]) -> Mapping[str, bool]:
    if any(group.fails for group in groups):
        return {"red": True, "bold": True}
    calm = {Verdict.UNCHANGED, Verdict.IMPROVED, Verdict.SKIPPED}
    odd = [result for result in run.results if result.verdict not in calm or words.not_judged(result)]
    good = run.results and not run.problems and not odd
    return {"green": True} if good else {"yellow": True}


def _table(groups: Sequence[_Group], verbosity: int, base: str) -> Iterator[Line]:
    rows = {id(case): list(_rows(case, verbosity)) for group in groups for case in group.cases}
    if not rows:
        return
    columns = (*_COLUMNS[:2], Column(base), *_COLUMNS[3:]) if base else _COLUMNS
    table = layout(columns, [row for case_rows in rows.values() for row in case_rows])
    yield Line("")
    yield Line(table.heading(), {"bold": True})
    for group in groups:
        total = len(group.cases) + group.more
        yield Line(f"{group.word} ({count(total, 'case')})", group.markup)
        for case in group.cases:
            yield from _case(case, rows[id(case)], table, verbosity)
        if group.more:
            yield Line(f"{_INDENT}{_more(group.more)}")
    yield Line("")


def _case(case: CaseResult, rows: Sequence[Sequence[str]], table: Layout, verbosity: int) -> Iterator[Line]:
    for row in rows:
        yield from map(Line, table.row(row))
    yield from (Line(f"{_INDENT}{reason}") for reason in reasons(case))
    if verbosity >= 2 and case.method:
        yield Line(f"{_INDENT}method: " + ", ".join(f"{name} {case.method[name]}" for name in sorted(case.method)))
    if verbosity >= 2 and case.notes:
        yield Line(f"{_INDENT}notes: " + ", ".join(f"{name}: {case.notes[name]}" for name in sorted(case.notes)))
    if verbosity >= 1 and case.reported:
        figures = (f"{each.name} {quantity(each.value, each.unit)}" for each in case.reported)
        yield Line(f"{_INDENT}reported: " + ", ".join(figures))
    if case.conditions and (verbosity >= 2 or case.verdict in _OF_THE_MACHINE):
        noted = (condition(name, value) for name, value in case.conditions.items())
        yield Line(f"{_INDENT}conditions: " + ", ".join(noted))
    if verbosity >= 2 and case.copy_bandwidth is not None:
        yield Line(f"{_INDENT}copy bandwidth of {case.key}: {quantity(case.copy_bandwidth, 'B/s')}")


def reasons(case: CaseResult) -> list[str]:
    """Give why a case got its verdict, a line each: the case's own reason, then what its metrics add to it."""
    told = [line for line in case.reason.splitlines() if line.strip()]
    if case.verdict is Verdict.CORRUPT:
        told = [line for line in told if not line.startswith(hints.HINT)]
    for metric in case.metrics:
        if metric.reason and metric.reason not in case.reason:
            told.append(f"{metric.name}: {metric.reason}")
        least = figures(metric).detectable
        told_already = least in case.reason or least in metric.reason
        if metric.verdict is Verdict.INCONCLUSIVE and least != NOTHING and not told_already:
            told.append(f"{metric.name}: the smallest slow-down it could have shown is {least}")
    return told


def _rows(case: CaseResult, verbosity: int) -> Iterator[tuple[str, ...]]:
    """Give the rows of a case: every metric that is not unchanged, or every one."""
    processes = str(case.processes) if case.processes else NOTHING
    metrics = [metric for metric in case.metrics if verbosity >= 1 or metric.verdict is not Verdict.UNCHANGED]
    if not metrics:
        now = outcomes.words(case.outcome) if words.broke(case) else NOTHING
        yield case.case, "", NOTHING, now, NOTHING, NOTHING, NOTHING, processes, words.of_case(case), ""
    speed = throughput(case)
    for index, metric in enumerate(metrics):
        fast = speed.text() if speed is not None and speed.metric == metric.name and verbosity >= 1 else ""
        yield ("" if index else case.case, metric.name, *_figures(case, metric), processes, _word(case, metric), fast)


def _figures(case: CaseResult, metric: MetricVerdict) -> tuple[str, ...]:
    text = figures(metric)
    if words.broke(case):
        # What a case that did not finish left behind is no measurement.
        return text.baseline, outcomes.words(case.outcome), NOTHING, NOTHING, NOTHING
    return text.baseline, text.value, words.change(metric), text.interval, text.limit


def _word(case: CaseResult, metric: MetricVerdict) -> str:
    return words.of_case(case) if words.broke(case) else words.verdict(metric.verdict)


def _more(number: int) -> str:
    return f"... {number} more (-v shows all)"
