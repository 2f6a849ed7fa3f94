"""What does ``benchmark`` do in a process of a calibration? It measures as always, then again with extra work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from perfgate.calibrate import again, samples
from perfgate.calibrate.steps import Steps
from perfgate.fixture import PerfBenchmark


class CalibratedBenchmark(PerfBenchmark):
    """The ``benchmark`` fixture of a process that a calibration started.

    Args:
        node: the test.
        steps: the extra work, as :meth:`perfgate.calibrate.steps.Steps.to_json` gives it.
        options: those of the fixture that it stands for.
    """

    def __init__(self, node: pytest.Item, *, steps: Mapping[str, Any], **options: Any) -> None:
        super().__init__(node, **options)
        self._steps = Steps.from_json(steps)
        self.again: list[again.Again] = []
        self.problems: list[str] = []

    def _measure(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = super()._measure(fn, args, kwargs)
        self.again, self.problems = again.measure(
            fn,
            args,
            kwargs,
            plan=self.plan,
            device=self.device,
            plain=self.metrics,
            method=self.method,
            steps=self._steps,
        )
        return result


def to_json(fixture: PerfBenchmark | None) -> dict[str, Any]:
    """Give what a calibration wants to know of a finished test beside its measurement.

    Returns:
        ``timed``, the metric that the samples belong to, ``samples`` of the measurement without extra work, ``again``,
        one object a step, and ``problems``.
    """
    if fixture is None:
        return {"timed": "", "samples": None, "again": [], "problems": []}
    seconds = list(fixture.stats.stats.data) if fixture.stats is not None else []
    timed = next((metric.name for metric in fixture.metrics if metric.unit == "s"), "")
    found = fixture.again if isinstance(fixture, CalibratedBenchmark) else []
    return {
        "timed": timed,
        "samples": samples.to_json(samples.summary(seconds)),
        "again": [{**vars(each), "samples": samples.to_json(each.samples)} for each in found],
        "problems": fixture.problems if isinstance(fixture, CalibratedBenchmark) else [],
    }
