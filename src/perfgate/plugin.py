"""The hooks that wire the gate into pytest; everything heavy is imported when a run needs it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perfgate import markers, options, startup, swallowed  # noqa: F401 - startup has to see sys.path as it was
from perfgate.errors import SettingError
from perfgate.static import undeclared_marker

if TYPE_CHECKING:
    from perfgate.fixture import PerfBenchmark
    from perfgate.run import State
    from perfgate.static.cases import Compiled

STATE: pytest.StashKey[State] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare flags and ini options."""
    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Free paths that flags with an optional value swallowed, before anybody reads the arguments."""
    swallowed.free_compared_path(early_config.known_args_namespace, args)
    swallowed.free_profiled_path(early_config.known_args_namespace, args)


class BenchmarkPlugin:
    """Provides the ``benchmark`` fixture; registered late, so that it comes after pytest-benchmark's own.

    Args:
        gated: whether the gate wants figures.
        profile: the folder of the profiles, in a process that profiles and measures nothing.
        calibration: extra work to measure again with, in a process of a calibration.
    """

    def __init__(self, gated: bool, profile: Path | None = None, calibration: Mapping[str, Any] | None = None) -> None:
        self._gated = gated
        self._profile = profile
        self._calibration = calibration

    @pytest.fixture
    def benchmark(self, request: pytest.FixtureRequest) -> Iterator[PerfBenchmark]:
        """Time a call, state its work, and put any figure under the gate."""
        from perfgate import finish, fixture, hardware, naming, selection

        if self._gated and not selection.is_case(request.node):
            raise SettingError(
                f"{naming.case_of(request.node)}: getfixturevalue('benchmark') hides the case from the gate",
                "What it measures would pass unjudged.",
                "make benchmark an argument of the test",
            )
        if request.config._benchmarksession.skip:  # type: ignore[attr-defined]
            pytest.skip("Benchmarks are skipped (--benchmark-skip was used).")
        kind: Callable[..., PerfBenchmark] = fixture.PerfBenchmark
        if self._profile is not None:
            from perfgate.profile.case import ProfiledBenchmark

            kind = functools.partial(ProfiledBenchmark, folder=self._profile)
        elif self._calibration is not None:
            from perfgate.calibrate.fixture import CalibratedBenchmark

            kind = functools.partial(CalibratedBenchmark, steps=self._calibration)
        made = fixture.make(request, hardware=hardware.detect, gated=self._gated, kind=kind)
        request.node.stash[finish.FIXTURE] = made
        yield made
        made._cleanup()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and prepare the run before pytest-benchmark reads its settings."""
    for line in (*markers.ini_lines(), markers.PERF, undeclared_marker.LINE):
        config.addinivalue_line("markers", line)
    if not any(config.pluginmanager.hasplugin(name) for name in ("benchmark", "pytest_benchmark.plugin")):
        return
    try:
        settings = options.read(config)
        distributed = config.getoption("dist", "no") != "no" or hasattr(config, "workerinput")
        asked = settings.active or settings.profile is not None
        wanted = asked or distributed or options.COLLECT_VARIABLE in os.environ
        state = _prepare(config, settings) if wanted else None
        benchmark = BenchmarkPlugin(False)
        if state is not None:
            benchmark = BenchmarkPlugin(state.measures, state.profile, state.calibration)
        config.pluginmanager.register(benchmark, "perfgate-benchmark")
    except SettingError as error:
        raise pytest.UsageError(str(error)) from None


def _prepare(config: pytest.Config, settings: options.Settings) -> State:
    """Set up the run; pytest starts that do without the gate do not pay for its modules."""
    from perfgate import prepare

    state = config.stash[STATE] = prepare.prepare(config, settings)
    return state


@pytest.fixture
def compiled(request: pytest.FixtureRequest) -> Compiled:
    """Figures of the kernels that a launch compiles to; see the ``static`` marker."""
    from perfgate.static import cases

    return cases.make(request)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a case of each launch and target that a ``static`` marker names."""
    if metafunc.definition.get_closest_marker("static") is not None:
        from perfgate.static import cases

        cases.generate(metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Compile what a static case is about, so that what goes wrong is the test's own failure."""
    if pyfuncitem.get_closest_marker("static") is not None:
        from perfgate.static import cases

        cases.before_call(pyfuncitem)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the baselines that the run compares with."""
    state = config.stash.get(STATE, None)
    return state.header() if state else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and note what there is before anything is deselected."""
    state = config.stash.get(STATE, None)
    if not items and state is None:
        return
    from perfgate import selection

    gated = state is not None and (state.measures or state.profile is not None)
    try:
        selection.apply(items, config.rootpath, gated=gated)
    except SettingError as error:
        raise pytest.UsageError(str(error)) from None
    if state is not None:
        state.note_collected(items)
        if path := os.environ.get(options.COLLECT_VARIABLE):
            try:
                selection.write_collected(items, state.modules, config.rootpath, state.settings.baselines, path)
            except SettingError as error:
                raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Take over cases of the gate and isolated tests; leave all others alone."""
    state = item.config.stash.get(STATE, None)
    if state is None and item.get_closest_marker("isolate"):
        state = _prepare(item.config, options.read(item.config))
    if state is None:
        return None
    from perfgate import turns

    return turns.protocol(state, item, nextitem)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test whose markers cannot be used."""
    from perfgate import selection

    if (error := item.stash.get(selection.MISUSED, None)) is not None:
        raise error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Remember how a phase failed."""
    report = yield
    if item.config.stash.get(STATE, None) is not None:
        from perfgate.finish import note_raised

        note_raised(item, call)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Any:
    """Confirm suspicions after the last test, while failures still count."""
    state = session.config.stash.get(STATE, None)
    if state is None:
        try:
            return (yield)
        except BaseException as error:
            _report_known(session, error)
            raise
    from perfgate import interrupts

    settle = state.settler(session)
    with interrupts.gently() if state.writes else contextlib.nullcontext():
        try:
            done = yield
        except BaseException as error:
            try:
                _report_known(session, error)
            finally:
                settle(True)
            raise
        try:
            settle(False)
        except session.Failed:
            raise
        except BaseException:
            # Ctrl-C while confirming: what is still held is reported as it stands.
            settle(True)
            raise
        return done


def _report_known(session: pytest.Session, error: BaseException) -> None:
    """Report what Ctrl-C would lose of a group. A run that stops by itself, as with -x, tells of no test behind."""
    # With the gate off an isolated test has prepared it.
    state = session.config.stash.get(STATE, None)
    if state is not None and isinstance(error, KeyboardInterrupt) and not isinstance(error, session.Interrupted):
        from perfgate import turns

        turns.report_known(state, session)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write baselines and files, and fail the run for what no test shows."""
    if (state := session.config.stash.get(STATE, None)) is not None:
        state.close(session, exitstatus)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the verdicts."""
    if (state := config.stash.get(STATE, None)) is not None:
        state.summary(terminalreporter)
