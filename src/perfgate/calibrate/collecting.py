"""Which cases can be calibrated, and how is a process like this one started? A pytest plugin that writes it down."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from perfgate import options, selection
from perfgate.errors import SettingError
from perfgate.naming import case_of
from perfgate.replicate import command

#: Names the file to write to.
VARIABLE = "PERFGATE_CALIBRATE_FILE"
#: How pytest is told to load this plugin.
LOADED = "-pperfgate.calibrate.collecting"


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the selected cases that this machine can run, but for those of compiled code, which repeat exactly."""
    path = os.environ.pop(VARIABLE, None)
    if path is None:
        return
    config = session.config
    launch = command.from_config(config)
    launch = replace(launch, arguments=tuple(argument for argument in launch.arguments if argument != LOADED))
    try:
        baselines = options.read(config).baselines
    except SettingError as error:
        raise pytest.UsageError(str(error)) from None
    cases = [item for item in session.items if selection.is_case(item) and not selection.is_compiled(item)]
    runnable = [item for item in cases if item.get_closest_marker("skip") is None]
    document = {
        "launch": launch.to_json(),
        "cases": [case_of(item) for item in runnable],
        "isolated": [case_of(item) for item in runnable if item.get_closest_marker("isolate") is not None],
        "skipped": len(cases) - len(runnable),
        "baselines": str(baselines),
    }
    Path(path).write_text(json.dumps(document), encoding="utf-8")
