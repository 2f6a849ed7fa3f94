"""Which files does a finished run leave? Those that flags and ini values name; one that fails keeps no other back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from perfgate.errors import HistoryError, RunFileError
from perfgate.model import Run
from perfgate.options import Settings

if TYPE_CHECKING:
    from perfgate.report.html.history import History


def write(run: Run, settings: Settings, root: Path) -> None:
    """Write every file that the run was asked for.

    Args:
        run: the finished run.
        settings: name the files.
        root: pytest's root folder, where published figures lie beside the cases.

    Raises:
        RunFileError: files that could not be written; the others were.
    """
    errors = []
    for each in _writers(run, settings, root):
        try:
            each()
        except RunFileError as error:
            errors.append(error)
    if len(errors) > 1:
        raise RunFileError("; ".join(each.what for each in errors), errors[0].why, errors[0].hint)
    if errors:
        raise errors[0]


def _writers(run: Run, settings: Settings, root: Path) -> Iterator[Callable[[], None]]:
    if (json := settings.json) is not None:
        from perfgate.report import run_file

        yield lambda: run_file.write(run, json)
    if (page := settings.html) is not None:
        from perfgate.report import html

        yield lambda: html.write(run, page, root=root, history=_past(settings.history))
    folder = os.path.relpath(root)
    if settings.github:
        from perfgate.report import github

        yield lambda: github.write_summary(run, strict=settings.strict, folder=folder)
    if (comment := settings.github_comment) is not None:
        from perfgate.report import github

        yield lambda: github.write_comment(run, comment, strict=settings.strict, folder=folder)


def _past(address: str) -> History | None:
    """Give what tells the past of a figure, where the run was added to a history that can be read."""
    if not address:
        return None
    from perfgate.history.query import reader

    try:
        return reader(address)
    except HistoryError:
        # Adding the run has failed as well, and that has been told.
        return None
