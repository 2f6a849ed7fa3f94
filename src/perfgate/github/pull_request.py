"""How do recorded baselines become a pull request? On a branch of their own, which a later recording replaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from perfgate import outcomes
from perfgate.errors import SettingError
from perfgate.github import gh
from perfgate.hardware.key import printable
from perfgate.model import Run
from perfgate.report import markdown
from perfgate.report.escape import code
from perfgate.units import count

_AUTHOR = (
    "-c", "user.name=github-actions[bot]",
    "-c", "user.email=41898282+github-actions[bot]@users.noreply.github.com",
)  # fmt: skip
#: The token is taken from where gh has it, for this one push.
_LOGIN = ("-c", "credential.helper=", "-c", "credential.helper=!gh auth git-credential")
#: No more cases, and no more problems, are named.
_MOST = 50


def failures(run: Run | None, ended: str, *, link: str = "") -> str:
    """Write what the run that recorded could not record, as Markdown; empty when nothing failed.

    Args:
        run: the run that recorded; None where it left no result.
        ended: how it ended, in GitHub's word: ``"success"``, ``"failure"``.
        link: address of the workflow's run.
    """
    failed = [] if run is None else [result for result in run.results if markdown.fails(result)]
    problems = () if run is None else run.problems
    if ended == "success" and not failed and not problems:
        return ""
    parts = ["**The run that recorded these baselines failed.** What it did not record is as before."]
    if failed:
        parts += ["", f"{count(len(failed), 'case')} failed:", ""]
        parts += [f"- {code(each.case)} on {code(each.key)}: {outcomes.words(each.outcome)}" for each in failed[:_MOST]]
    if problems:
        parts += ["", f"{count(len(problems), 'problem')}:", ""]
        firsts = [problem.partition("\n")[0] for problem in problems[:_MOST]]
        parts += [f"- {code(printable(line))}" for line in firsts]
    if left := max(0, len(failed) - _MOST) + max(0, len(problems) - _MOST):
        parts.append(f"- ... and {left} more")
    if not failed and not problems:
        parts += [
            "",
            "No case of it is known to have failed: a test that is no performance case did, or the run broke.",
        ]
    if link:
        parts += ["", f"[Log of the run]({link})"]
    return "\n".join(parts) + "\n\n"


def propose(repository: str, folder: Path, *, branch: str, base: str, title: str, text: str) -> Iterator[str]:
    """Commit a folder to a branch, push that, and open a pull request or bring the open one up to date.

    Args:
        repository: ``owner/name``.
        folder: what to commit; nothing else is.
        branch: the branch; what it held before is replaced.
        base: the branch to merge into.
        title: of the commit and of a new pull request.
        text: what the pull request says.

    Raises:
        SettingError: the branch is the one to merge into, which would be replaced.
        PerfgateError: git or GitHub refuses.
    """
    if branch == base:
        raise SettingError(
            f"--branch: {branch!r} is the branch to merge into",
            "What the branch held is replaced.",
            "--branch perf-baselines/MACHINE",
        )

    def git(*arguments: str) -> str:
        return gh.call(arguments, program="git")

    git("add", "--all", "--", str(folder))
    if not git("diff", "--cached", "--name-only", "--", str(folder)).strip():
        yield f"nothing in {folder} has changed: no pull request"
        return
    git("checkout", "-B", branch)
    git(*_AUTHOR, "commit", "--quiet", "--message", title, "--", str(folder))
    git(*_LOGIN, "push", "--force", "origin", f"HEAD:refs/heads/{branch}")
    where = ["--repo", repository]
    listed = ["pr", "list", *where, "--head", branch, "--base", base, "--state", "open", "--json", "number"]
    for pull in json.loads(gh.call(listed)):
        number = str(pull["number"])
        gh.call(["pr", "edit", number, *where, "--title", title, "--body-file", "-"], text=text)
        yield f"updated pull request {number}"
        return
    made = ["pr", "create", *where, "--head", branch, "--base", base, "--title", title, "--body-file", "-"]
    yield f"opened {gh.call(made, text=text).strip()}"
