"""How does a run become a page? One HTML file that opens offline, prints, and reads without scripts.

Text from tests passes :func:`perfgate.report.html.markup.escaped` and nothing else; style and script are files beside
this one, written into the page and named in its policy by their digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perfgate.model import Run
from perfgate.report import whole_file
from perfgate.report.html.history import History, Series

__all__ = ["History", "Series", "render", "write"]


def render(runs: Sequence[Run], *, root: Path | None = None, history: History | None = None) -> str:
    """Write runs as one page; a later run of a case on the same hardware replaces an earlier one.

    Args:
        runs: finished runs, the oldest first.
        root: pytest's root folder, where published figures lie beside the cases; None leaves them out.
        history: gives the series of a metric over past runs.
    """
    from perfgate.report.html.page import page
    from perfgate.report.merge import cases
    from perfgate.report.published import folders, load

    results = cases(runs)
    published, faults = load(root, folders(results)) if root is not None else ([], [])
    problems = [*(line for run in runs for line in run.problems), *faults]
    problems += [f"unused baseline: {file}" for run in runs for file in run.unused]
    return page(runs, results, published, list(dict.fromkeys(problems)), history)


def write(
    run: Run,
    path: Path,
    *,
    root: Path | None = None,
    history: History | None = None,
    setting: str = "--perf-html",
) -> None:
    """Write a run to a page, whole or not at all.

    Raises:
        RunFileError: the file cannot be written.
    """
    whole_file.write(path, render([run], root=root, history=history), what="the page", setting=setting)
