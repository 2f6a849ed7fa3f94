"""The hooks that wire the gate into pytest; everything heavy is imported when a run needs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from perfgate import options
from perfgate.errors import PerfgateError, SettingError

if TYPE_CHECKING:
    from perfgate.run import State

STATE: pytest.StashKey[State] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare flags and ini options."""
    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Free a path that ``--benchmark-compare`` swallowed, before anybody reads the arguments."""
    options.free_swallowed_path(early_config.known_args_namespace, args)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and prepare the run before pytest-benchmark reads its settings."""
    from perfgate import markers, plan

    for line in (*markers.ini_lines(), plan.MARKER):
        config.addinivalue_line("markers", line)
    if not any(config.pluginmanager.hasplugin(name) for name in ("benchmark", "pytest_benchmark.plugin")):
        return
    from perfgate import run

    try:
        config.stash[STATE] = run.prepare(config)
    except SettingError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the baselines that the run compares with."""
    state = config.stash.get(STATE, None)
    return state.header() if state else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and note what there is before anything is deselected."""
    from perfgate import selection

    try:
        selection.apply(items)
    except SettingError as error:
        raise pytest.UsageError(str(error)) from None
    if (state := config.stash.get(STATE, None)) is not None:
        state.note_collected(items)
        if path := os.environ.get(options.COLLECT_VARIABLE):
            selection.write_collected(items, state.modules, config.rootpath, state.settings.baselines, path)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Take over cases of the gate and isolated tests; leave all others alone."""
    state = item.config.stash.get(STATE, None)
    return state.protocol(item, nextitem) if state else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Remember how a phase failed."""
    report = yield
    if item.config.stash.get(STATE, None) is not None:
        from perfgate.gate import note_raised

        note_raised(item, call)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Any:
    """Confirm suspicions after the last test, while failures still count."""
    state = session.config.stash.get(STATE, None)
    settle: Callable[[bool], None] = state.settler(session) if state else lambda interrupted: None
    try:
        done = yield
    except BaseException:
        settle(True)
        raise
    settle(False)
    return done


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write baselines and files, and fail the run for what no test shows."""
    state = session.config.stash.get(STATE, None)
    if state is None:
        return
    try:
        state.close(session, exitstatus)
    except PerfgateError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the verdicts."""
    if (state := config.stash.get(STATE, None)) is not None:
        state.summary(terminalreporter)
