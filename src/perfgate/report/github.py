"""What does a run leave on GitHub? A summary of the step, and a file for a comment on the pull request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from perfgate.errors import RunFileError
from perfgate.model import Run
from perfgate.report import markdown, whole_file
from perfgate.report.annotations import Place, lines

#: Set by GitHub Actions: where the step's summary is, and where the checkout is.
SUMMARY, WORKSPACE = "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"


def link(environment: Mapping[str, str] = os.environ) -> str:
    """Give the address of this run, under which its artifacts are; "" where GitHub Actions does not run us."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, number = (environment.get(name, "") for name in names)
    return f"{server}/{repository}/actions/runs/{number}" if server and repository and number else ""


def annotate(run: Run, places: Mapping[str, Place], root: Path, *, strict: bool, folder: str) -> list[str]:
    """Give the workflow commands that annotate the lines of failing tests."""
    workspace = Path(os.environ.get(WORKSPACE) or root)
    return lines(run, places, root=root, workspace=workspace, strict=strict, folder=folder)


def write_summary(run: Run, *, strict: bool, folder: str, environment: Mapping[str, str] = os.environ) -> None:
    """Append a run to the summary of the step, within what GitHub still takes; do nothing where there is none.

    Raises:
        RunFileError: the file cannot be written.
    """
    if not (name := environment.get(SUMMARY)):
        return
    path = Path(name)
    try:
        used = path.stat().st_size if path.exists() else 0
        left = markdown.SUMMARY_BYTES - used
        if left <= 0:
            return
        text = markdown.summary(run, strict=strict, folder=folder, link=link(environment), limit=left)
        with path.open("ab") as file:
            # What a command wrote before may not have ended its last line.
            file.write(b"\n" * bool(used) + text.encode("utf-8", "replace"))
    except OSError as error:
        raise RunFileError(
            f"{path}: cannot write the summary of this step: {error.strerror}",
            "The tests have run; only the summary is missing.",
            f"leave it out with --no-perf-github, or look where ${SUMMARY} points to",
        ) from error


def write_comment(run: Run, path: Path, *, strict: bool, folder: str) -> None:
    """Write the text of a comment on a pull request.

    Raises:
        RunFileError: the file cannot be written.
    """
    text = markdown.comment(run, strict=strict, folder=folder, link=link())
    whole_file.write(path, text, what="the comment", setting="--perf-github-comment")
