"""What can a test do with ``benchmark``? pytest-benchmark's fixture, plus our clocks and what a test states itself.

Imports pytest-benchmark, which is loaded by then anyway.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture, FixtureAlreadyUsed
from pytest_benchmark.utils import NameWrapper

from perfgate import markers
from perfgate.errors import SettingError
from perfgate.measure import profilers
from perfgate.model import METHOD_VERSION, Device, Hardware, Metric
from perfgate.naming import case_of, group_of
from perfgate.plan import Plan
from perfgate.plan import of as plan_of
from perfgate.progress import Progress
from perfgate.statements import Statements

if TYPE_CHECKING:
    from perfgate.measure.cpu_conditions import QueueWait


class PerfBenchmark(Statements, BenchmarkFixture):  # type: ignore[misc]  # pytest-benchmark has no types
    """The ``benchmark`` fixture.

    With the gate on (or for a case with the device clock) a call is measured as the case's ``perf`` marker says;
    otherwise everything is pytest-benchmark's own.

    Args:
        node: the test.
        plan: its ``perf`` marker.
        hardware: gives the machine; called only when something is measured.
        gated: whether figures are wanted by the gate.
        progress: shows that the test goes on.
        options: pytest-benchmark's own.
    """

    def __init__(
        self,
        node: pytest.Item,
        *,
        plan: Plan,
        hardware: Callable[[], Hardware],
        gated: bool,
        progress: Progress,
        **options: Any,
    ) -> None:
        BenchmarkFixture.__init__(self, node, **options)
        Statements.__init__(self, case_of(node), progress)
        self._mode: str | None = None
        self._profilable = False
        self.plan = plan
        self.metrics: list[Metric] = []
        self.method: dict[str, str] = {}
        self.conditions: dict[str, Any] = {}
        self.kernels: dict[str, Any] = {}
        self._queue: QueueWait | None = None
        self._hardware = hardware
        self._gated = gated
        self._marks = {mark.name for mark in node.iter_markers()}
        #: Whether tests of its group have run torch's profiler in this process.
        self._slowed_down = bool(group_of(node)) and profilers.starts() > 0
        self._device: Device | None = None

    @property
    def device(self) -> Device:
        """Where the case runs: as its markers say, or where its arguments are."""
        if self._device is None:
            self._device = markers.device_for(self._marks, self._hardware())
        return self._device

    @property
    def has_profilable_call(self) -> bool:
        """Whether the test has made or marked a call that ``--perf-profile`` can profile."""
        return self._mode is not None or self._profilable

    @property
    def has_figures(self) -> bool:
        """Whether the test has measured a call to its end, or stated a figure."""
        measured = self._mode is not None and not self.has_error
        return measured or bool(self.recorded or self.reported)

    def profile(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Mark ``function(*args, **kwargs)`` as the call to profile, in a test that does not call ``benchmark(...)``.

        With ``--perf-profile`` it is called in the process that profiles, twice, which ends the test there: what comes
        before this line runs there again, and what comes after it does not. Otherwise nothing is called. Of several
        marked or measured calls the first is profiled.
        """
        self._profilable = True

    def clock(self) -> float:
        """Read seconds for figures that a test takes itself: differences of two readings in one thread.

        On a CPU without the time in which the thread waited for a core that others had, as the case's own time is.
        """
        if self.device.kind != "cpu":
            return time.perf_counter()
        if self._queue is None:
            from perfgate.measure.cpu_conditions import QueueWait

            self._queue = QueueWait()
        return time.perf_counter() - self._queue()

    def _cleanup(self) -> None:
        super()._cleanup()
        if self._queue is not None:
            self._queue.close()

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Measure ``function_to_benchmark(*args, **kwargs)`` and return the result of a measured call."""
        if not self.enabled or not (self._gated or self.plan.clock in ("device", "both")):
            return super().__call__(function_to_benchmark, *args, **kwargs)
        if self._mode:
            self.has_error = True
            raise FixtureAlreadyUsed(f"Fixture can only be used once. Previously it was used in {self._mode} mode.")
        self._mode = "benchmark(...)"
        try:
            return self._measure(function_to_benchmark, args, kwargs)
        except BaseException:
            self.has_error = True
            raise

    def _measure(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from perfgate.measure import case, notes

        self._find_device((args, kwargs))
        with notes.collect(self._noted):
            taken = case.measure(fn, args, kwargs, plan=self.plan, device=self.device)
        self.metrics = list(taken.metrics)
        self.method = dict(taken.method)
        self.conditions = dict(taken.conditions)
        self.kernels = dict(taken.kernels)
        stats = self._make_stats(1)
        for sample in taken.samples_s:
            stats.update(sample)
        return taken.result

    def _raw_pedantic(self, target: Callable[..., Any], *positional: Any, **named: Any) -> Any:
        """Run pytest-benchmark's rounds as the test asks for them; the gate judges their median.

        Memory is not measured: setup, teardown and the number of calls belong to the test.
        """
        if not (self._gated and self.enabled):
            return super()._raw_pedantic(target, *positional, **named)
        from perfgate.measure import notes
        from perfgate.measure.unprofiled import unprofiled

        if self.plan.clock in ("device", "both"):
            raise SettingError(
                f"{self._case}: perf marker: clock={self.plan.clock!r} cannot time benchmark.pedantic(...)",
                "Its rounds are timed on the wall clock, as the test asks for them.",
                "call benchmark(function, ...), or leave clock out",
            )
        self._find_device(named.get("args") or ())
        speeds: Mapping[str, float]
        if self.device.kind == "cpu":
            from perfgate.measure.reference_speed import ReferenceSpeeds
            from perfgate.measure.threads import pinned

            references = ReferenceSpeeds()
            with pinned(self.plan.threads), notes.collect(self._noted), unprofiled():
                references.measure()
                result = super()._raw_pedantic(target, *positional, **named)
                references.measure()
            speeds = references.speeds()
        else:
            from perfgate.measure.host_speed import HostSpeed

            host = HostSpeed()
            with notes.collect(self._noted), unprofiled(), host.around():
                result = super()._raw_pedantic(_finished(target), *positional, **named)
            speeds = host.speeds()
        self._take_rounds(speeds)
        return result

    def _take_rounds(self, speeds: Mapping[str, float]) -> None:
        from perfgate.measure import case, sampling, wall

        on_cpu = self.device.kind == "cpu"
        samples = list(self.stats.stats.data)
        self.metrics = [
            Metric(
                "wall_time",
                "s",
                statistics.median(samples),
                limit=self.plan.time or (wall.WALL_LIMIT_CPU if on_cpu else case.DEVICE_WALL_LIMIT),
                noise=wall.WALL_NOISE_CPU if on_cpu else case.DEVICE_WALL_NOISE,
                spread=sampling.spread(samples) if len(samples) > 1 else None,
                samples=len(samples),
                speeds=speeds,
            )
        ]
        self.method = {"version": METHOD_VERSION, "clock": "pedantic"}
        if on_cpu:
            self.method["threads"] = str(self.plan.threads)

    def _find_device(self, arguments: object) -> None:
        """Take the GPU for an unmarked test whose arguments are on it."""
        from perfgate.measure import case

        accelerator = self._hardware().accelerator
        unmarked = self.device.kind == "cpu" and "cpu" not in self._marks
        if unmarked and accelerator is not None and case.uses_accelerator(arguments):
            self._device = accelerator
        if self._slowed_down and self.device.kind != "cpu" and self.plan.clock != "device":
            raise SettingError(
                f"{self._case}: a test of its isolate group has run torch's profiler before",
                "On a GPU launches take longer from then on, in the same process.",
                "leave group= out of the isolate marker of what is timed",
            )


def _finished(target: Callable[..., Any]) -> Callable[..., Any]:
    """Give a call that ends when the device has done its work: otherwise only its launches are timed."""
    import torch

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = target(*args, **kwargs)
        torch.cuda.synchronize()
        return result

    return call


def make(
    request: pytest.FixtureRequest,
    *,
    hardware: Callable[[], Hardware],
    gated: bool,
    kind: Callable[..., PerfBenchmark] = PerfBenchmark,
) -> PerfBenchmark:
    """Build the fixture of one test from pytest-benchmark's settings and the test's markers."""
    session = request.config._benchmarksession  # type: ignore[attr-defined]
    node = request.node
    marker = node.get_closest_marker("benchmark")
    options = dict(marker.kwargs) if marker else {}
    if "timer" in options:
        options["timer"] = NameWrapper(options["timer"])
    return kind(
        node,
        plan=plan_of(node),
        hardware=hardware,
        gated=gated,
        progress=Progress(request.config),
        add_stats=session.benchmarks.append,
        logger=session.logger,
        warner=node.warn,
        # pytest-benchmark disables itself under xdist; the gate pins each worker to a GPU of its own instead.
        disabled=session.disabled and not gated,
        **{**session.options, **options},
    )
