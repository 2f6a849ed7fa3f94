"""How does a finished run get into the history? A history that fails neither loses the run nor hides its verdicts."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

from perfgate.errors import HistoryError, RunFileError
from perfgate.history.entry import of_run
from perfgate.model import Run
from perfgate.report import run_file


def keep(run: Run, address: str, root: Path, json: Path | None) -> Run:
    """Add a run to the history.

    Args:
        run: the finished run.
        address: where the history is.
        root: pytest's root folder: a run that could not be added is stored there.
        json: the file that the run is written to anyway, or None.

    Returns:
        The run, with a problem more when it could not be added, or a remark when it does not belong there.
    """
    if run.base:
        # What a pull request measures would be a step up and down again among the nights.
        remark = f"not added to the history: the run compares with {run.base}, not with baselines"
        return replace(run, remarks=(*run.remarks, remark))
    from perfgate.history.store import History

    entry = of_run(run, platform.node())
    if not entry.points:
        return run
    try:
        with History(address) as history:
            history.append(entry)
    except HistoryError as error:
        lines = [error.what]
        file = json or root / f"perf-run-{entry.identity[:12]}.json"
        try:
            if json is None:
                run_file.write(run, file)
            place = os.path.relpath(file, Path.cwd())
            lines += [f"The run is kept in {place}.", f"hint: perfgate history import {place}"]
        except RunFileError as second:
            lines.append(second.what)
        return replace(run, problems=(*run.problems, "\n".join(lines)))
    return run
