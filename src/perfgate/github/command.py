"""What does ``perfgate github`` do? It takes stored runs to a pull request's comment, an issue, or a pull request."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfgate.errors import PerfgateError, SettingError
from perfgate.github import comment, issue, pull_request
from perfgate.model import Run
from perfgate.report import run_file
from perfgate.report.github import link

_RUN = "run.json"


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "write the comment of a pull request, the issue of a nightly run, or a pull request of baselines"
    parser = commands.add_parser("github", help=about, description=f"{about}, with GitHub's command gh")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    where = argparse.ArgumentParser(add_help=False)
    about = "OWNER/NAME (default: $GITHUB_REPOSITORY)"
    where.add_argument("--repository", metavar="R", default=os.environ.get("GITHUB_REPOSITORY", ""), help=about)
    where.add_argument("--link", metavar="URL", default=None, help="address of the workflow's run (default: this one)")
    results = "folder of results: FOLDER/NAME/run.json, with NAME a machine's"

    about = "write or replace the comment of a pull request"
    one = actions.add_parser("comment", parents=[where], help=about, description=about)
    one.add_argument("results", metavar="FOLDER", type=Path, help=results)
    about = "file that holds the number of the pull request (default: FOLDER/NAME/pull-request of any machine)"
    one.add_argument("--number", metavar="FILE", type=Path, help=about)
    one.add_argument("--head", metavar="COMMIT", required=True, help="the commit of the pull request that was run")
    one.add_argument("--author", metavar="LOGIN", default=comment.AUTHOR, help="whose comment is replaced")

    about = "open an issue or update the open one, where a case fails or history shows a step; else close it"
    one = actions.add_parser("issue", parents=[where], help=about, description=about)
    one.add_argument("results", metavar="FOLDER", type=Path, help=f"{results}; history.json and history.md too")
    about = """machines that were to measure, as JSON: ["cpu"] or [{"name": "cpu"}]"""
    one.add_argument("--expected", metavar="NAMES", default="[]", help=about)
    about = "how the jobs that measured ended, in GitHub's word: any but success is told (default: success)"
    one.add_argument("--ended", metavar="WORD", default="success", help=about)
    one.add_argument("--title", metavar="TITLE", default="Performance changed in a nightly run", help="of a new issue")
    one.add_argument("--label", metavar="LABEL", default=issue.LABEL, help=f"(default: {issue.LABEL})")

    about = "commit a folder of baselines to a branch, and open or update its pull request"
    one = actions.add_parser("pull-request", parents=[where], help=about, description=about)
    one.add_argument("folder", metavar="FOLDER", type=Path, help="what to commit, and nothing else")
    one.add_argument("--branch", metavar="NAME", required=True, help="the branch; what it held is replaced")
    one.add_argument("--base", metavar="NAME", default="main", help="the branch to merge into (default: main)")
    one.add_argument("--title", metavar="TITLE", required=True, help="of the commit and the pull request")
    one.add_argument("--body", metavar="FILE", type=Path, required=True, help="what the pull request says")
    about = "the run that recorded (pytest --perf-json): what failed in it is told first"
    one.add_argument("--run", metavar="RUN.json", type=Path, help=about)
    about = "how that run ended, in GitHub's word: any but success is told (default: success)"
    one.add_argument("--ended", metavar="WORD", default="success", help=about)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Do it and tell.

    Raises:
        SettingError: the command line cannot be used.
        RunFileError: a stored run cannot be read.
        PerfgateError: GitHub refuses.
    """
    if not options.repository:
        raise SettingError(
            "which repository? Neither --repository nor $GITHUB_REPOSITORY says it", hint="--repository=OWNER/NAME"
        )
    address = link() if options.link is None else options.link
    if options.action == "comment":
        number = comment.number_in(*_number(options))
        runs = list(_runs(options.results).values())
        yield from comment.post(options.repository, number, options.head, runs, link=address, author=options.author)
    elif options.action == "issue":
        found = _runs(options.results)
        text = issue.body(
            found,
            _names(options.expected),
            _history(options.results),
            ended=options.ended,
            repository=options.repository,
            link=address,
            server=os.environ.get("GITHUB_SERVER_URL", "https://github.com"),
        )
        good = issue.good_news(found, link=address)
        yield from issue.update(options.repository, options.title, text, found, good=good, label=options.label)
    else:
        yield from pull_request.propose(
            options.repository,
            options.folder,
            branch=options.branch,
            base=options.base,
            title=options.title,
            text=_failures(options, address) + _read(options.body),
        )


def _failures(options: argparse.Namespace, address: str) -> str:
    """Tell what the run that recorded could not record."""
    # A run that broke leaves no file: that is told by how it ended.
    known = options.run is not None and options.run.exists()
    return pull_request.failures(run_file.read(options.run) if known else None, options.ended, link=address)


def _runs(folder: Path) -> dict[str, Run]:
    """Read the run of each machine, by the machine's name."""
    if not folder.is_dir():
        return {}
    return {path.parent.name: run_file.read(path) for path in sorted(folder.glob(f"*/{_RUN}"))}


def _history(folder: Path) -> str:
    """Give what history told on each machine, where anything is worse, or a wrong clock hides what would be."""
    told = []
    for path in sorted(folder.glob("*/history.json")):
        try:
            found = json.loads(_read(path))
            worse = any(each["worse"] for each in found["findings"]) or found.get("future")
        except (ValueError, KeyError, TypeError) as error:
            hint = "write it with: perfgate history report --json"
            raise PerfgateError(f"{path}: not a report of the history", hint=hint) from error
        if worse:
            told.append(_read(path.with_suffix(".md")).strip())
    return "\n\n".join(dict.fromkeys(told))


def _number(options: argparse.Namespace) -> tuple[str, str]:
    """Give the text that is to hold the number of the pull request, and where it is from."""
    path = options.number or next(iter(sorted(options.results.glob("*/pull-request"))), None)
    if path is None:
        raise PerfgateError(
            f"{options.results}: no machine left the number of the pull request",
            "Without it nobody knows where to comment.",
            "give a file that holds it with --number=FILE",
        )
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(64), str(path)


def _names(text: str) -> list[str]:
    try:
        names = [each["name"] if isinstance(each, dict) else each for each in json.loads(text)]
    except (ValueError, KeyError, TypeError):
        names = [None]
    if not all(isinstance(name, str) for name in names):
        raise SettingError(f"--expected: {text!r} is not a list of names", hint="""--expected='["cpu", "h200"]'""")
    return names


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise PerfgateError(f"{path}: cannot be read: {error.strerror}") from error
