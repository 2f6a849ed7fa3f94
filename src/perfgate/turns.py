"""In which process does a test have its turn, and with whom? Here, in one of its own, or in that of its group."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol
from _pytest.skipping import evaluate_skip_marks

from perfgate import gate, markers, plan, selection
from perfgate.finish import finish
from perfgate.measure import profilers
from perfgate.model import Measurement
from perfgate.naming import case_of, group_of
from perfgate.replicate import isolate

if TYPE_CHECKING:
    from perfgate.run import State


def protocol(state: State, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a case of the gate or an isolated test; None for all others."""
    skipped = item.get_closest_marker("skip") is not None
    timeout_s = None if state.settings.replica or skipped else isolate.timeout_of(item)
    gated = state.gate is not None and selection.is_case(item)
    fresh = state.settings.replica and selection.is_case(item)
    # Of a group, whatever starts a profiler counts, be it a case or not, and on the GPU or not.
    grouped = state.settings.replica and bool(group_of(item)) and state.hardware.accelerator is not None
    profilers.watch(load=grouped or ((gated or fresh) and _on_gpu(state, item)))
    if timeout_s is None and not gated:
        return None
    timeouts_s = {} if timeout_s is None else _timeouts(state, item)
    if timeout_s is None and _slowed_down(state, item):
        state.tell(f"{item.nodeid}: in a process of its own, torch's profiler ran in this one")
        timeout_s = math.inf
        timeouts_s = {case_of(item): math.inf}
    before = profilers.starts()

    def run_phases() -> tuple[list[pytest.TestReport], Measurement]:
        if timeout_s is not None:
            release_device_memory()
            _stop_timer(item)
            return isolate.run(item, nextitem, state.launch, timeouts_s, active=state.measures)
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        return reports, finish(item, reports, state.hardware)

    if gated and not isinstance(state.gate, gate.Gate):
        assert state.gate is not None
        return state.gate.take(item, nextitem, run_phases, timeout_s)
    _report(state, item, run_phases, isolated=timeout_s is not None, profiled=lambda: profilers.starts() > before)
    return True


def _report(
    state: State,
    item: pytest.Item,
    run_phases: Callable[[], tuple[list[pytest.TestReport], Measurement]],
    *,
    isolated: bool,
    profiled: Callable[[], bool] = lambda: False,
) -> None:
    """Let a test run, and let its reports out: a case of the gate by way of the gate."""
    if isinstance(state.gate, gate.Gate) and selection.is_case(item):
        apart = (group_of(item) or case_of(item)) if isolated else None
        state.gate.protocol(item, run_phases, apart=apart, profiled=profiled)
        return
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in run_phases()[0]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def report_known(state: State, session: pytest.Session) -> None:
    """Report the tests that have ended in the process of their group, where an interrupt came before their turn."""
    # A worker of xdist shares no process, and reports only what its controller asked for.
    for item in () if state.is_worker else session.items:
        findings = isolate.known(item)
        if findings is not None:
            _report(state, item, functools.partial(isolate.brought_back, item, findings), isolated=True)


def _timeouts(state: State, item: pytest.Item) -> dict[str, float]:
    """Give the seconds that an isolated test, and each one that shares its process, may take, by case."""
    # A worker of xdist does not know which of the tests behind this one are its own.
    sharing = [item] if state.is_worker else isolate.together(item, item.session.items)
    if state.base is not None:
        # Its cases are measured in pairs, after the last test.
        sharing = [each for each in sharing if each is item or not selection.is_case(each)]
    return {case_of(each): isolate.timeout_of(each) or 0.0 for each in sharing}


def _slowed_down(state: State, item: pytest.Item) -> bool:
    """Whether launches count in a case that is marked for a GPU, and a profiler has run in this process."""
    if not profilers.starts() or state.settings.replica or not isinstance(state.gate, gate.Gate):
        return False
    if selection.MISUSED in item.stash or evaluate_skip_marks(item) is not None:
        return False
    return plan.of(item).clock != "device" and _on_gpu(state, item)


def _on_gpu(state: State, item: pytest.Item) -> bool:
    """Whether its markers put a case on a GPU of this machine."""
    names = {mark.name for mark in item.iter_markers()}
    return markers.device_for(names, state.hardware).kind != "cpu"


def _stop_timer(item: pytest.Item) -> None:
    """End the clock of pytest-timeout for a test that runs elsewhere, and maybe with others: it has one there."""
    stop = getattr(item.ihook, "pytest_timeout_cancel_timer", None)
    if stop is not None:
        stop(item=item)


def release_device_memory() -> None:
    """Give cached device memory back, so that fresh processes find room."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
