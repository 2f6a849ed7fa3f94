"""What becomes of a run that could not be summed up? Its tests still count, and the user is told what went wrong."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from perfgate.errors import PerfgateError, SettingError

_WHY = "The tests have run and their results count; baselines and files that this run was to write may be missing."


def exit_code(error: Exception, exitstatus: int) -> int:
    """Give the exit code of a run.

    Args:
        error: what went wrong at its end.
        exitstatus: pytest's exit code; what says that tests failed, or that the run broke off, stays.
    """
    if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return exitstatus
    if isinstance(error, SettingError):
        return pytest.ExitCode.USAGE_ERROR
    # As a baseline that could not be written: something the user asked for was not done.
    return pytest.ExitCode.TESTS_FAILED if isinstance(error, PerfgateError) else pytest.ExitCode.INTERNAL_ERROR


def told(error: Exception) -> list[str]:
    """Give the lines that tell what went wrong, where, and what to do."""
    if isinstance(error, PerfgateError):
        return f"ERROR: perfgate: {error}".splitlines()
    name = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    place = traceback.extract_tb(error.__traceback__)[-1]
    return [
        f"ERROR: perfgate could not sum up this run: {name} ({Path(place.filename).name}, line {place.lineno})",
        _WHY,
        "hint: this is a fault in perfgate: report it with these lines",
        *"".join(traceback.format_tb(error.__traceback__)).splitlines(),
    ]
