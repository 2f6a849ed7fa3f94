"""What can a test do with ``benchmark``? pytest-benchmark's fixture, plus work, recorded figures and our clocks.

Imports pytest-benchmark, which is loaded by then anyway.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture, FixtureAlreadyUsed
from pytest_benchmark.utils import NameWrapper

from perfgate import markers
from perfgate.errors import SettingError
from perfgate.model import METHOD_VERSION, Better, Device, Hardware, Metric, Noise, Reported, Work
from perfgate.naming import case_of
from perfgate.plan import Plan
from perfgate.plan import of as plan_of
from perfgate.progress import Progress
from perfgate.units import parse_limit

if TYPE_CHECKING:
    from perfgate.measure.cpu_conditions import QueueWait

_OWN_NAMES = ("device_time", "wall_time", "memory")


class PerfBenchmark(BenchmarkFixture):  # type: ignore[misc]  # pytest-benchmark has no types
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
        super().__init__(node, **options)
        self._mode: str | None = None
        self.plan = plan
        self.stated_work: Work | None = None
        self.metrics: list[Metric] = []
        self.recorded: list[Metric] = []
        self.method: dict[str, str] = {}
        self.conditions: dict[str, Any] = {}
        self.kernels: dict[str, Any] = {}
        self.reported: list[Reported] = []
        self._noted: dict[str, set[str]] = {}
        self._progress = progress
        self._queue: QueueWait | None = None
        self._hardware = hardware
        self._gated = gated
        self._marks = {mark.name for mark in node.iter_markers()}
        self._device: Device | None = None
        self._case = case_of(node)

    @property
    def device(self) -> Device:
        """Where the case runs: as its markers say, or where its arguments are."""
        if self._device is None:
            self._device = markers.device_for(self._marks, self._hardware())
        return self._device

    @property
    def notes(self) -> dict[str, str]:
        """What the measured call, and the test around it, noted."""
        from perfgate.measure import notes

        return notes.texts(self._noted)

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

    def work(self, *, bytes: float | None = None, flops: float | None = None) -> None:
        """State what one call has to do at the least, for throughput and share of the copy bandwidth.

        Args:
            bytes: bytes read plus bytes written by one call.
            flops: floating-point operations of one call.
        """
        for name, value in (("bytes", bytes), ("flops", flops)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SettingError(
                    f"{self._case}: benchmark.work({name}={value!r}): not a positive number",
                    hint="state the work of one call, or leave it out",
                )
        self.stated_work = Work(bytes, flops)

    def record(
        self,
        name: str,
        value: float,
        *,
        unit: str = "1",
        better: Better = "lower",
        limit: str = "5%",
        noise: str = "0",
    ) -> None:
        """Put any figure of this case under the gate, beside its time and memory.

        Args:
            name: what it is, e.g. "time_to_first_token".
            value: the figure of this process.
            unit: base unit: "s", "B", "1", "tokens/s", ...
            better: "lower" or "higher".
            limit: allowed change for the worse: "10%", "0.3us", "2% or 0.25us".
            noise: expected standard deviation between processes; "0" for a figure that repeats exactly.
        """
        where = f"{self._case}: benchmark.record({name!r})"
        number = self._figure(where, name, value)
        if better not in ("lower", "higher"):
            raise SettingError(f"{where}: better={better!r} is neither 'lower' nor 'higher'")
        try:
            allowed, expected = parse_limit(limit, unit), parse_limit(noise, unit)
        except SettingError as error:
            raise SettingError(f"{where}: {error.what}", error.why, error.hint) from None
        self.extra_info[name] = number
        self.recorded.append(Metric(name, unit, number, better, allowed, Noise(expected.relative, expected.absolute)))

    def report(self, name: str, value: float, *, unit: str = "1") -> None:
        """Show a figure of this case and keep it in the run's file, without judging it.

        Args:
            name: what it is, e.g. "load_time".
            value: the figure of this process.
            unit: base unit: "s", "B", "1", "tokens/s", ...
        """
        number = self._figure(f"{self._case}: benchmark.report({name!r})", name, value)
        self.extra_info[name] = number
        self.reported.append(Reported(name, unit, number))

    def note(self, name: str, text: str) -> None:
        """Note which way this case went, e.g. ("sdpa_backend", "flash"): a possible cause when its figures change."""
        self._noted.setdefault(name, set()).add(text)

    def progress(self, text: str) -> None:
        """Show where a long test is. What follows the last line shown within a few seconds is not shown."""
        self._progress.show(f"perfgate: {self._case}: {text}")

    def _figure(self, where: str, name: str, value: float) -> float:
        """Check the name and the value of a further figure."""
        taken = {*_OWN_NAMES, *(each.name for each in self.recorded), *(each.name for each in self.reported)}
        if not name.isidentifier() or name in taken:
            raise SettingError(
                f"{where}: this name cannot be used", hint=f"a new identifier, none of {', '.join(_OWN_NAMES)}"
            )
        number = float(value)
        if not math.isfinite(number):
            raise SettingError(
                f"{where}: the value is {number}",
                "A figure that is not a number cannot be compared, and would pass unnoticed.",
                "find out where it comes from, or leave it out for this case",
            )
        return number

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
        speeds: dict[str, float] = {}
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
            with notes.collect(self._noted), unprofiled():
                result = super()._raw_pedantic(_finished(target), *positional, **named)
        self._take_rounds(speeds)
        return result

    def _take_rounds(self, speeds: dict[str, float]) -> None:
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
