"""How do recorded baselines become a pull request? On a branch of their own, which a later recording replaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from perfgate.errors import SettingError
from perfgate.github import gh

_AUTHOR = (
    "-c", "user.name=github-actions[bot]",
    "-c", "user.email=41898282+github-actions[bot]@users.noreply.github.com",
)  # fmt: skip
#: The token is taken from where gh has it, for this one push.
_LOGIN = ("-c", "credential.helper=", "-c", "credential.helper=!gh auth git-credential")


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
