"""What does ``perfgate report`` do? It builds reports from stored runs: a page, Markdown, JSON, or lines of text.

Annotations are left out: at which lines the tests are is known only while they run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfgate.errors import SettingError
from perfgate.report import run_file, whole_file

if TYPE_CHECKING:
    from perfgate.model import CaseResult
    from perfgate.report.html import History


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "build reports from stored runs: a page, Markdown, or one run of several"
    parser = commands.add_parser(
        "report",
        help=about,
        description=f"{about}. A later run of a case on the same hardware replaces an earlier one. "
        "Without a file to write, the runs are told in the terminal.",
    )
    about = "runs that pytest --perf-json=FILE has stored, the oldest first"
    parser.add_argument("runs", metavar="RUN.json", type=Path, nargs="*", help=about)
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page that opens offline")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write Markdown, as for a step's summary")
    about = "write the text of a comment on a pull request"
    parser.add_argument("--github-comment", metavar="FILE", type=Path, help=about)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all of it as one stored run")
    about = "write all figures of each published.csv beside the cases of the runs, and ours, as CSV"
    parser.add_argument("--published", metavar="FILE", type=Path, help=about)
    about = "folder of one hardware's baselines, for --published: they stand in for cases that no run has"
    parser.add_argument("--baselines", metavar="DIR", type=Path, help=about)
    about = "folder that the ids of the cases start from, for published.csv beside them (default: this one)"
    parser.add_argument("--root", metavar="DIR", type=Path, default=Path(), help=about)
    about = "draw past runs on the page: a file or an address that pytest --perf-history has written to"
    parser.add_argument("--history", metavar="URL", help=about)


def _past(address: str | None) -> History | None:
    """Give what tells the series of a figure, where a history was named."""
    if address is None:
        return None
    from perfgate.history.query import reader

    return reader(address)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Build what was asked for.

    Raises:
        RunFileError: a run cannot be read, or a report cannot be written.
        BaselineError: the folder of baselines cannot be read.
        HistoryError: the history is not there, or cannot be read.
        SettingError: there is nothing to report, a table would be written over published figures, or the address of
            the history cannot be used.
    """
    from perfgate.report.merge import cases, latest, merged

    _check(options)
    runs = [run_file.read(path) for path in options.runs]
    if options.html is not None:
        from perfgate.report import html

        page = html.render(runs, root=options.root, history=_past(options.history))
        whole_file.write(options.html, page, what="the page", setting="--html")
        yield f"wrote {options.html}"
    if options.markdown is not None:
        from perfgate.report import markdown

        whole_file.write(options.markdown, markdown.summary(*latest(runs)), what="the Markdown", setting="--markdown")
        yield f"wrote {options.markdown}"
    if options.github_comment is not None:
        from perfgate.report import markdown

        text = markdown.comment(*latest(runs))
        whole_file.write(options.github_comment, text, what="the comment", setting="--github-comment")
        yield f"wrote {options.github_comment}"
    if options.published is not None:
        yield from _published(cases(runs), options)
    if options.json is not None:
        run_file.write(merged(runs), options.json, setting="--json")
        yield f"wrote {options.json}"
    if not any((options.html, options.markdown, options.github_comment, options.published, options.json)):
        from perfgate.report import terminal

        for line in terminal.lines(merged(runs)):
            yield line.text


def _check(options: argparse.Namespace) -> None:
    """Refuse what would report nothing or lose something; baselines stand in for runs in the table alone."""
    from perfgate.report import published

    if options.baselines is not None and options.published is None:
        raise SettingError(
            "--baselines: there is no table to put them into",
            "Baselines stand beside published figures alone.",
            "add --published=FILE",
        )
    if options.baselines is not None and not options.baselines.is_dir():
        raise SettingError(
            f"{options.baselines}: there is no such folder",
            "It is to hold the baselines of one kind of hardware.",
            "--baselines=baselines/KEY, with a key that perfgate hardware shows",
        )
    if options.published is not None and published.is_source(options.published):
        raise SettingError(
            f"--published={options.published}: this file holds the published figures themselves",
            "The table of theirs and ours would take their place.",
            "name another file: --published=table.csv",
        )
    others = (options.html, options.markdown, options.github_comment, options.json)
    if not options.runs and (options.baselines is None or any(others)):
        raise SettingError("there is no run to report", "", "perfgate report RUN.json, of pytest --perf-json=RUN.json")


def _published(results: Sequence[CaseResult], options: argparse.Namespace) -> Iterator[str]:
    """Write the table of published figures, and say what is wrong with the files that they are in."""
    from perfgate.report import published, published_csv, recorded
    from perfgate.units import count

    stored: list[CaseResult] = []
    if options.baselines is not None:
        found, damages = recorded.results(options.baselines)
        yield from (f"damaged: {damage}" for damage in damages)
        if not found:
            raise SettingError(
                f"{options.baselines}: there is no baseline that can be used",
                "The table would have no figure of it, and take the place of one that has.",
                "--baselines=baselines/KEY, with a key that perfgate hardware shows",
            )
        measured = {(each.key, each.case) for each in results}
        stored = [each for each in found if (each.key, each.case) not in measured]
    names = published.folders([*results, *stored])
    figures, problems = published.load(options.root, names)
    yield from problems
    folders = ", ".join(name or "the root folder" for name in names) or "no folder"
    if not figures and not problems:
        yield f"no {published.FILE} beside the cases of these runs: looked in {folders}, from {options.root}"
    table = published_csv.table(results, figures, stored)
    whole_file.write(options.published, table, what="the table", setting="--published")
    yield f"wrote {options.published}: {count(len(figures), 'published figure')} of {folders}"
