"""When does a nightly run open an issue? When a case fails, when history shows a step, or when a machine is silent.

A night closes it in which each case that it tells of was compared again and is good: one that was skipped has not
answered. What history opened stays: a step is told once, and no later night says that it is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from perfgate.github import gh, waiting
from perfgate.model import CaseResult, Run
from perfgate.report import markdown
from perfgate.report.escape import code
from perfgate.units import count

LABEL = "perf-nightly"
#: Stands in the issue, unseen: a person's issue under the same label is left alone.
MARKER = "<!-- perfgate: nightly run -->"
#: The same of an issue that tells of a step: a person has to close it.
HISTORY_MARKER = "<!-- perfgate: a step in the history -->"
#: GitHub takes no longer text.
_MOST_BYTES = 65_000
_ROOM_FOR_HISTORY = 30_000
_MOST_COMMITS = 30
_EARLIER = f"\n{HISTORY_MARKER}\nAn earlier night told of a step in the history: `perfgate history` shows it.\n"
_OTHERWISE = "a test that is no performance case failed, or something broke"
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def body(
    runs: Mapping[str, Run],
    expected: Collection[str] = (),
    history: str = "",
    *,
    ended: str = "success",
    repository: str = "",
    link: str = "",
    server: str = "https://github.com",
) -> str:
    """Write what is wrong; empty when nothing is.

    Args:
        runs: what was measured, by the name of the machine.
        expected: the machines that were to measure.
        history: what history has to tell, as Markdown; empty when it shows nothing new.
        ended: how the jobs that measured ended, in GitHub's word.
        repository: ``owner/name``, for links to ranges of commits.
        link: address of the workflow's run.
        server: address of GitHub.
    """
    silent = [name for name in expected if name not in runs]
    wrong = any(run.problems or any(map(markdown.fails, run.results)) or not run.results for run in runs.values())
    if not (silent or wrong or history.strip() or not runs or ended != "success"):
        return ""
    parts = [f"{MARKER}\n"]
    if silent or not runs:
        names = ", ".join(map(code, silent)) or "any machine"
        parts.append(f"**No result from {names}**: see the log of the run.\n\n")
    elif not wrong and ended != "success":
        parts.append(f"**A run ended as {code(ended)}, and no case did**: {_OTHERWISE}, see the log of the run.\n\n")
    parts += _ranges(runs, repository, server)
    history = history.strip()
    if len(history.encode()) > _ROOM_FOR_HISTORY:
        history = history.encode()[:_ROOM_FOR_HISTORY].decode(errors="ignore").rpartition("\n")[0] + "\n\n..."
    if history:
        parts.append(f"{HISTORY_MARKER}\n{history}\n\n")
    if runs:
        left = _MOST_BYTES - len("".join(parts).encode())
        parts.append(markdown.summary(*runs.values(), link=link, limit=left))
    if link:
        parts.append(f"\n[Run]({link})\n")
    return "".join(parts)


def good_news(runs: Mapping[str, Run], *, link: str = "") -> str:
    """Write that all is well, for a night whose :func:`body` is empty; empty where a machine compared nothing.

    Args:
        runs: what was measured, by the name of the machine.
        link: address of the workflow's run.
    """
    if not runs or not all(map(markdown.has_compared, runs.values())):
        return ""
    return f"No case fails in this night. {markdown.answer(*runs.values())}.\n" + (f"\n[Run]({link})\n" if link else "")


def update(
    repository: str, title: str, text: str, runs: Mapping[str, Run], *, good: str = "", label: str = LABEL
) -> Iterator[str]:
    """Open an issue, or bring the one that is open up to date; after a good night close it. Tell what was done.

    Args:
        repository: ``owner/name``.
        title: of a new issue.
        text: what :func:`body` gave.
        runs: what was measured, by the name of the machine.
        good: what :func:`good_news` gave, with which an open issue is closed when there is no text.
        label: of the issue.

    Raises:
        PerfgateError: GitHub refuses.
    """
    where = ["--repo", repository]
    listed = ["issue", "list", *where, "--state", "open", "--label", label, "--limit", "100", "--json", "number,body"]
    issues = [each for each in json.loads(gh.call(listed)) if (each["body"] or "").startswith(MARKER)]
    if not text:
        for issue in issues:
            yield _close(issue, where, good, waiting.of(issue["body"]) - waiting.answered(runs))
        if not issues:
            yield "nothing to tell: no issue"
        return
    if issues:
        number = str(issues[0]["number"])
        left = waiting.of(issues[0]["body"]) - waiting.answered(runs)
        text = waiting.told(text, left - waiting.failing(runs))
        text = waiting.marked(text, MARKER, left | waiting.failing(runs))
        if HISTORY_MARKER in issues[0]["body"] and HISTORY_MARKER not in text:
            text += _EARLIER
        gh.call(["issue", "edit", number, *where, "--body-file", "-"], text=text)
        yield f"updated issue {number}"
        return
    text = waiting.marked(text, MARKER, waiting.failing(runs))
    about = "Performance changed in a nightly run"
    gh.call(["label", "create", label, *where, "--force", "--description", about, "--color", "B60205"])
    made = gh.call(["issue", "create", *where, "--title", title, "--label", label, "--body-file", "-"], text=text)
    yield f"opened {made.strip()}"


def _close(issue: Mapping[str, Any], where: Sequence[str], good: str, unanswered: Collection[waiting.Failing]) -> str:
    """Close an issue with good news, where they answer what it tells; say what was done."""
    number = str(issue["number"])
    if HISTORY_MARKER in issue["body"]:
        return f"issue {number} stays open: it tells of a step in the history"
    if unanswered:
        (machine, case), *more = sorted(unanswered)
        others = f" and {count(len(more), 'more case')}" if more else ""
        return f"issue {number} stays open: {case} on {machine}{others} was not compared again"
    if not good:
        return f"issue {number} stays open: a machine compared nothing"
    gh.call(["issue", "close", number, *where, "--reason", "completed", "--comment", good])
    return f"closed issue {number}"


def _ranges(runs: Mapping[str, Run], repository: str, server: str) -> Iterator[str]:
    """Give the commits that a failing case is to be looked for in: since its baseline was recorded."""
    found: dict[tuple[str, str], list[CaseResult]] = {}
    for run in runs.values():
        for result in markdown.ranked(run):
            if markdown.fails(result) and result.baseline_commit and run.commit:
                found.setdefault((result.baseline_commit, run.commit), []).append(result)
    if not found:
        return
    yield "Commits to look at, since the baselines of the failing cases were recorded:\n"
    for (before, after), results in list(found.items())[:_MOST_COMMITS]:
        names = ", ".join(code(result.case) for result in results[:3])
        more = f" and {count(len(results) - 3, 'more case')}" if len(results) > 3 else ""
        yield f"- {_range(before, after, repository, server)}: {names}{more}\n"
    yield "\n"


def _range(before: str, after: str, repository: str, server: str) -> str:
    """Name a range of commits, with a link where both can be found."""
    # A tree with changes is no commit.
    ends = [commit.removesuffix("+changes") for commit in (before, after)]
    text = code(f"{before}..{after}")
    if not repository or not all(map(_COMMIT.fullmatch, ends)):
        return text
    return f"[{text}]({server}/{repository}/compare/{ends[0]}...{ends[1]})"
