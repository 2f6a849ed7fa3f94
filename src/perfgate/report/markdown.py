"""What does a finished run look like on GitHub? Markdown for a step's summary, and for a comment on a pull request."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterator, Sequence

from perfgate import outcomes
from perfgate.model import CaseResult, Device, MetricVerdict, Run, Verdict
from perfgate.report import hints, words
from perfgate.report.case_text import failure, figures_line
from perfgate.report.escape import block, code, one_line, prose
from perfgate.report.order import worst_first
from perfgate.units import NOTHING, count, figures, quantity

#: Stands in each comment, unseen, so that the next run finds it and replaces it.
MARKER = "<!-- perfgate: performance of this pull request -->"
#: GitHub refuses a larger summary of a step (1 MiB) and a larger comment (65,536 characters).
SUMMARY_BYTES, COMMENT_BYTES = 2**20 - 2**12, 65_000
#: A table of more rows is read by nobody: the others are in the report.
MOST_ROWS = 100
MOST_REASONS = 20

_CYCLES = "*In cycles*: the machine ran at another speed for each side, and the change is corrected for it."

_ALIGNED = (":--",) * 3 + ("--:",) * 6
_COMPARED = frozenset({Verdict.UNCHANGED, Verdict.IMPROVED, Verdict.REGRESSED, Verdict.OUTCOME_CHANGED})


def summary(*runs: Run, strict: bool = False, folder: str = ".", link: str = "", limit: int = SUMMARY_BYTES) -> str:
    """Write finished runs as Markdown; the first line is the answer, the worst comes first.

    Args:
        runs: the runs, say one a machine.
        strict: whether they were judged under ``--perf-strict``.
        folder: path of pytest's root from where the user will type what is hinted at.
        link: address of the run whose artifacts hold the whole; what does not fit is pointed to there.
        limit: the most bytes that the text may have.
    """
    page = _Page(limit, link)
    page.add(f"## {answer(*runs)}\n")
    for run in runs:
        if len(runs) > 1:
            page.add(f"\n### {answer(run)}\n")
        _write(page, run, strict, folder)
    return page.text()


def comment(*runs: Run, strict: bool = False, folder: str = ".", link: str = "", limit: int = COMMENT_BYTES) -> str:
    """Write finished runs as a comment on a pull request: :data:`MARKER` in a line of its own, then as a summary."""
    head = f"{MARKER}\n"
    return head + summary(*runs, strict=strict, folder=folder, link=link, limit=limit - len(head))


def answer(*runs: Run) -> str:
    """Say in one line whether the gate passed, and how many cases got which verdict where.

    Without a run, or with no case that could be compared, it has not passed.
    """
    told = "; ".join(map(_counts, runs))
    results = [result for run in runs for result in run.results]
    problems = sum(len(run.problems) for run in runs)
    if problems or any(map(fails, results)):
        also = f"; {count(problems, 'problem')}" if problems else ""
        return f"Performance gate failed: {told}{also}"
    if not results:
        return f"Performance gate: {told or 'no run'}"
    if not any(run.compared for run in runs):
        return f"Performance: {told}"
    if not any(map(has_compared, runs)):
        return f"Performance gate compared nothing: {told}"
    return f"Performance gate passed: {told}"


def _counts(run: Run) -> str:
    """Say how many cases got which verdict on which hardware, or what a recording did."""
    if not run.compared:
        return prose(words.only_recorded(run))
    if not run.results:
        return "no performance case ran"
    groups: dict[str, list[CaseResult]] = {}
    for result in run.results:
        groups.setdefault(result.key, []).append(result)
    told = "; ".join(
        f"{', '.join(f'{len(cases)} {word}' for word, cases in words.by_verdict(group).items())} on {code(key)}"
        for key, group in groups.items()
    )
    return f"{told}, compared with {code(run.base)}" if run.base else told


def has_compared(run: Run) -> bool:
    """Tell whether any case of a run could be compared: one that is new, stale or skipped could not."""
    return any(result.verdict in _COMPARED for result in run.results)


def fails(result: CaseResult) -> bool:
    """Tell whether the test of a case fails: by its verdict, or by itself before there was anything to judge."""
    return result.failed or words.not_judged(result)


def ranked(run: Run) -> list[CaseResult]:
    """Give the cases of a run, those that fail before all others, the worst first."""
    return sorted(worst_first(run.results), key=lambda result: not fails(result))


class _Page:
    """Text that never grows beyond its limit: what does not fit is left out, and that is said.

    Args:
        limit: the most bytes.
        link: where what is left out is found.
    """

    def __init__(self, limit: int, link: str) -> None:
        where = f"[the artifacts of this run]({link})" if link else "the JSON file or the page of this run"
        self._note = f"\n> Not all of it is here. The whole is in {where}.\n"
        self._left = limit - len(self._note.encode())
        self._parts: list[str] = []
        self.cut = False

    def add(self, text: str) -> bool:
        """Add text as a whole, or not at all."""
        size = len(text.encode())
        if size > self._left:
            self.cut = True
            return False
        self._left -= size
        self._parts.append(text)
        return True

    def text(self) -> str:
        """Give the page."""
        return "".join(self._parts) + (self._note if self.cut else "")


def _write(page: _Page, run: Run, strict: bool, folder: str) -> None:
    cases = ranked(run)
    notable = [result for result in cases if _notable(result)]
    left = len(notable) - _table(page, notable[:MOST_ROWS], "base" if run.base else "baseline")
    if left:
        page.cut = True
        page.add(f"\n... and {count(left, 'more case')}\n")
    for problem in run.problems:
        page.add(f"\n**Problem**\n{block(problem)}\n")
    failing = [result for result in notable if fails(result)]
    if steps := [*_reproduce(run, failing, folder), *hints.for_run(run, folder)]:
        page.add("\n**Next**\n" + "".join(f"- {_step(step)}\n" for step in steps))
    for result in failing[:MOST_REASONS]:
        page.add(_folded("Why it fails: ", failure(result, strict, folder, run.base), case=result.case))
    page.add(_folded("Machine and software", "\n".join(_machine(run))))
    if run.unused:
        page.add(_folded(count(len(run.unused), "unused baseline"), "\n".join(run.unused)))
    if rest := [result for result in cases if not _notable(result)]:
        page.add(_folded(count(len(rest), "other case"), "\n".join(map(_in_one_line, rest))))


def _notable(result: CaseResult) -> bool:
    """Tell whether a case has a row of its own."""
    return fails(result) or result.verdict not in (Verdict.UNCHANGED, Verdict.SKIPPED)


def _table(page: _Page, results: Sequence[CaseResult], before: str) -> int:
    """Add a table of cases as far as it fits; give how many are in it."""
    headings = ("verdict", "case", "metric", before, "now", "change", "interval", "limit", "processes")
    if not results or not page.add(f"\n{_row(headings)}{_row(_ALIGNED)}"):
        return 0
    shown = len(results)
    for number, result in enumerate(results):
        if not page.add("".join(map(_row, _cells(result)))):
            shown = number
            break
    if any(words.in_cycles(metric) for result in results[:shown] for metric in _told(result)):
        page.add(f"\n{_CYCLES}\n")
    return shown


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cells(result: CaseResult) -> Iterator[tuple[str, ...]]:
    """Give the rows of a case: a row for each metric that is not unchanged."""
    word = words.of_case(result)
    name, processes = code(result.case), str(result.processes or NOTHING)
    metrics = _told(result)
    if not metrics:
        now = outcomes.words(result.outcome) if words.broke(result) else NOTHING
        yield f"**{word}**" if fails(result) else word, name, "", NOTHING, now, NOTHING, NOTHING, NOTHING, processes
        return
    for index, metric in enumerate(metrics):
        told = words.verdict(metric.verdict)
        bold = fails(result) and metric.verdict is result.verdict
        yield f"**{told}**" if bold else told, "" if index else name, code(metric.name), *_figures(metric), processes


def _told(result: CaseResult) -> list[MetricVerdict]:
    """Give the metrics of a case that get a row; what a case that did not finish left behind is no measurement."""
    if words.broke(result):
        return []
    return [metric for metric in result.metrics if metric.verdict is not Verdict.UNCHANGED]


def _figures(metric: MetricVerdict) -> tuple[str, ...]:
    """Give the figures of a metric as cells; its unit may be any word that a test made up."""
    text = figures(metric)
    cells = (text.baseline, text.value, words.change(metric), text.interval, text.limit)
    known = metric.unit in ("s", "B", "B/s", "Hz", "FLOP/s", "1", "", "count")
    return cells if known else tuple(cell if cell == NOTHING else code(cell) for cell in cells)


def _reproduce(run: Run, failing: Sequence[CaseResult], folder: str) -> list[str]:
    """Give the command that measures the worst cases again; for two sides a hint of theirs says it."""
    if not failing or not run.compared or run.base:
        return []
    ids = " ".join(shlex.quote(words.from_folder(result.case, folder)) for result in failing[:3])
    return [f"measure the worst again: pytest --benchmark-compare {ids}"]


def _step(hint: str) -> str:
    """Write a next step: what it does as text, what to type as code."""
    what, colon, command = hint.partition(": ")
    typed = colon and command.startswith(("pytest", "perfgate", "git"))
    return f"{prose(what)}: {code(command)}" if typed else code(hint)


def _folded(title: str, text: str, case: str = "") -> str:
    """Give text that is shown when its title is clicked; the name of a case is code, so that it mentions nobody."""
    name = f"<code>{html.escape(one_line(case))}</code>" if case else ""
    return f"\n<details><summary>{title}{name}</summary>\n\n{block(text)}\n</details>\n"


def _machine(run: Run) -> Iterator[str]:
    for device in run.hardware.devices:
        yield f"{device.key}: {_device(device)}"
    yield "software: " + ", ".join(f"{name} {run.software[name]}" for name in sorted(run.software))
    if run.command:
        yield f"command: {run.command}"
    yield f"commit {run.commit or 'unknown'}, started {run.started}, took {quantity(run.duration_s, 's')}"


def _device(device: Device) -> str:
    facts = [device.name]
    if device.memory_bytes:
        facts.append(quantity(device.memory_bytes, "B"))
    facts.append(count(device.count, "thread") if device.kind == "cpu" else count(device.count, "device"))
    if device.power_limit_w is not None:
        facts.append(f"power limit {device.power_limit_w:g} W")
    return ", ".join(facts)


def _in_one_line(result: CaseResult) -> str:
    time = next((metric for metric in result.metrics if metric.name in ("device_time", "wall_time")), None)
    told = f": {figures_line(time)}" if time is not None and not words.broke(result) else ""
    return f"{words.of_case(result)}  {result.case}{told}"
