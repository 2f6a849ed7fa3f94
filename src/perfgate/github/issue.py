"""When does a nightly run open an issue? When a case fails, when history shows a step, or when a machine is silent."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping

from perfgate.github import gh
from perfgate.model import CaseResult, Run
from perfgate.report import markdown
from perfgate.report.escape import code
from perfgate.units import count

LABEL = "perf-nightly"
#: Stands in the issue, unseen: a person's issue under the same label is left alone.
MARKER = "<!-- perfgate: nightly run -->"
#: GitHub takes no longer text.
_MOST_BYTES = 65_000
_ROOM_FOR_HISTORY = 30_000
_MOST_COMMITS = 30
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def body(
    runs: Mapping[str, Run],
    expected: Collection[str] = (),
    history: str = "",
    *,
    repository: str = "",
    link: str = "",
    server: str = "https://github.com",
) -> str:
    """Write what is wrong; empty when nothing is.

    Args:
        runs: what was measured, by the name of the machine.
        expected: the machines that were to measure.
        history: what history has to tell, as Markdown; empty when it shows nothing new.
        repository: ``owner/name``, for links to ranges of commits.
        link: address of the workflow's run.
        server: address of GitHub.
    """
    silent = [name for name in expected if name not in runs]
    wrong = any(run.problems or any(map(markdown.fails, run.results)) or not run.results for run in runs.values())
    if not (silent or wrong or history.strip() or not runs):
        return ""
    parts = [f"{MARKER}\n"]
    if silent or not runs:
        names = ", ".join(map(code, silent)) or "any machine"
        parts.append(f"**No result from {names}**: see the log of the run.\n\n")
    parts += _ranges(runs, repository, server)
    history = history.strip()
    if len(history.encode()) > _ROOM_FOR_HISTORY:
        history = history.encode()[:_ROOM_FOR_HISTORY].decode(errors="ignore").rpartition("\n")[0] + "\n\n..."
    if history:
        parts.append(f"{history}\n\n")
    if runs:
        left = _MOST_BYTES - len("".join(parts).encode())
        parts.append(markdown.summary(*runs.values(), link=link, limit=left))
    if link:
        parts.append(f"\n[Run]({link})\n")
    return "".join(parts)


def update(repository: str, title: str, text: str, *, label: str = LABEL) -> Iterator[str]:
    """Open an issue, or bring the one that is open up to date; tell what was done.

    Args:
        repository: ``owner/name``.
        title: of a new issue.
        text: what :func:`body` gave; when empty, nothing is done.
        label: of the issue.

    Raises:
        PerfgateError: GitHub refuses.
    """
    if not text:
        yield "nothing to tell: no issue"
        return
    where = ["--repo", repository]
    listed = ["issue", "list", *where, "--state", "open", "--label", label, "--limit", "100", "--json", "number,body"]
    for issue in json.loads(gh.call(listed)):
        if (issue["body"] or "").startswith(MARKER):
            number = str(issue["number"])
            gh.call(["issue", "edit", number, *where, "--body-file", "-"], text=text)
            yield f"updated issue {number}"
            return
    about = "Performance changed in a nightly run"
    gh.call(["label", "create", label, *where, "--force", "--description", about, "--color", "B60205"])
    made = gh.call(["issue", "create", *where, "--title", title, "--label", label, "--body-file", "-"], text=text)
    yield f"opened {made.strip()}"


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
