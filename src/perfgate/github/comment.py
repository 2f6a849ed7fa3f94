"""How does a pull request get its one comment? The first run writes it, later ones replace it.

The caller has a token that may write; what it is given comes from a run of the pull request's own code. So the number
of the pull request is believed only if its head is the commit that was run, and the text is written here, from figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from perfgate.errors import PerfgateError
from perfgate.github import gh
from perfgate.model import Run
from perfgate.report import markdown

#: Who writes with the token of a workflow.
AUTHOR = "github-actions[bot]"
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def number_in(text: str, source: str) -> int:
    """Read the number of a pull request.

    Raises:
        PerfgateError: it is anything but a number.
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise PerfgateError(
            f"{source}: {text[:40]!r} is not the number of a pull request",
            "It comes from a run of the pull request's own code and is not believed.",
        )
    return int(text)


def post(
    repository: str, number: int, head: str, runs: Sequence[Run], *, link: str = "", author: str = AUTHOR
) -> Iterator[str]:
    """Write or replace the comment; tell what was done.

    Where nothing was measured there is nothing to write, but what an earlier commit got does not stay.

    Args:
        repository: ``owner/name``.
        number: the pull request.
        head: the commit that was run, as GitHub says it.
        runs: what was measured, a run each machine.
        link: address of the workflow's run.
        author: whose comment is replaced; that of nobody else is touched.

    Raises:
        PerfgateError: GitHub refuses.
    """
    if not _COMMIT.fullmatch(head):
        raise PerfgateError(f"--head: {head[:60]!r} is not a full commit id", hint="--head=$(git rev-parse HEAD)")
    pull = gh.ask(f"repos/{repository}/pulls/{number}")
    if pull["head"]["sha"] != head:
        yield f"pull request {number} is not at {head[:12]}: no comment"
        return
    body = markdown.comment(*runs, link=link)
    fields = "{id, login: .user.login, body}"
    for old in gh.ask_each(f"repos/{repository}/issues/{number}/comments?per_page=100", fields):
        if old["login"] == author and (old["body"] or "").startswith(markdown.MARKER):
            gh.send("PATCH", f"repos/{repository}/issues/comments/{old['id']}", {"body": body})
            yield f"replaced the comment on pull request {number}"
            return
    if not runs:
        yield "nothing was measured: no comment"
        return
    gh.send("POST", f"repos/{repository}/issues/{number}/comments", {"body": body})
    yield f"commented on pull request {number}"
