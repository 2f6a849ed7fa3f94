"""Which part does this process play? Only process, controller or worker of xdist, or a fresh process of another run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perfgate import hardware, options
from perfgate.errors import SettingError
from perfgate.finish import finish
from perfgate.model import Measurement
from perfgate.options import Settings
from perfgate.replicate.wire import Task
from perfgate.run import State


def prepare(config: pytest.Config, settings: Settings) -> State:
    """Tell pytest-benchmark about the settings, and register what this process needs.

    Raises:
        SettingError: settings that cannot be used together.
    """
    measured = settings.active and not settings.replica
    if measured and config.getoption("benchmark_disable") and not config.getoption("benchmark_enable"):
        others = "--perf-ab" if settings.ab else "--benchmark-compare and --perf-update"
        raise SettingError(
            "--benchmark-disable leaves nothing to compare or record", hint=f"leave it out, or leave {others} out"
        )
    state = State(config, settings)
    config.pluginmanager.register(state, "perfgate-state")
    if settings.replica:
        task = _become_replica(config)
        state.measures, state.profile = task.active, Path(task.profile) if task.profile else None
        state.calibration = task.calibration
    elif settings.active:
        _quiet_benchmark(config)
    if state.is_controller or state.is_worker:
        from perfgate import xdist

        xdist.register(config, state)
    if settings.profile is not None:
        from perfgate.profile.run import ProfilesPlugin

        config.pluginmanager.register(ProfilesPlugin(state), "perfgate-profiles")
    return state


def _become_replica(config: pytest.Config) -> Task:
    """Run what this process was started for, and nothing else."""
    from perfgate.replicate.child import WITHHELD, ChildPlugin

    option = config.option
    for name in WITHHELD:
        if hasattr(option, name):
            setattr(option, name, None)
    option.benchmark_compare, option.benchmark_quiet = [], True
    option.benchmark_json = option.benchmark_save = option.benchmark_autosave = None
    task = Task.load(os.environ[options.REPLICA_VARIABLE])
    # Children of the tests themselves are not replicas.
    del os.environ[options.REPLICA_VARIABLE]

    def measurement(item: pytest.Item, reports: list[pytest.TestReport]) -> Measurement:
        return finish(item, reports, hardware.detect())

    config.pluginmanager.register(ChildPlugin(config, task, measurement), "perfgate-child")
    return task


def _quiet_benchmark(config: pytest.Config) -> None:
    """Keep pytest-benchmark's own comparison and table for those who have its files or ask for it."""
    option = config.option
    if option.benchmark_compare is True and not option.benchmark_compare_fail and not _has_saved_runs(config):
        option.benchmark_compare = []
    if not option.benchmark_compare and not option.benchmark_verbose:
        option.benchmark_quiet = True


def _has_saved_runs(config: pytest.Config) -> bool:
    """Whether pytest-benchmark's own storage holds a run."""
    storage = str(config.getoption("benchmark_storage"))
    if storage.startswith("elasticsearch"):
        return True
    return any(Path(storage.removeprefix("file://")).glob("*/*.json"))
