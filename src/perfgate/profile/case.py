"""What does ``benchmark`` do in a process that only profiles? It profiles the call, writes that down, ends the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from perfgate.fixture import PerfBenchmark
from perfgate.profile import summary
from perfgate.profile.torch_profile import Profile, capture

#: The name under which the row of a case travels with its report.
PROPERTY = "perfgate_profile"

_T = TypeVar("_T")


class ProfiledBenchmark(PerfBenchmark):
    """The ``benchmark`` fixture of a process that measures nothing.

    Args:
        node: the test.
        folder: the folder of the profiles.
        options: those of the fixture that it stands for.
    """

    def __init__(self, node: pytest.Item, *, folder: Path, **options: Any) -> None:
        super().__init__(node, **options)
        self._node = node
        self._folder = folder

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> NoReturn:
        """Profile ``function_to_benchmark(*args, **kwargs)``, and end the test."""
        self._mode = "benchmark(...)"
        self._find_device((args, kwargs))
        self._end(self._capture(lambda: function_to_benchmark(*args, **kwargs), warmed_up=False))

    def _raw_pedantic(self, target: Callable[..., Any], *positional: Any, **named: Any) -> NoReturn:
        """Profile one round after another that is not profiled, each with a setup and a teardown of its own."""
        setup, teardown = named.get("setup"), named.get("teardown")

        def round_of(run: Callable[[Callable[[], object]], _T]) -> _T:
            given = (setup() if setup is not None else None) or (named.get("args") or (), named.get("kwargs") or {})
            args, kwargs = given
            self._find_device((args, kwargs))
            done = run(lambda: target(*args, **kwargs))
            if teardown is not None:
                teardown(*args, **kwargs)
            return done

        round_of(lambda call: call())
        self._end(round_of(lambda call: self._capture(call, warmed_up=True)))

    def profile(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> NoReturn:
        """Profile ``function(*args, **kwargs)`` with as many threads as the test has, and end the test."""
        self._mode = "benchmark.profile(...)"
        self._end(capture(lambda: function(*args, **kwargs), warmed_up=False))

    def _capture(self, call: Callable[[], object], *, warmed_up: bool) -> Profile:
        """Profile a call with as many threads as it is measured with."""
        from perfgate.measure.threads import pinned

        timed_on_cpu = self._gated and self.device.kind == "cpu"
        with pinned(self.plan.threads) if timed_on_cpu else contextlib.nullcontext():
            return capture(call, warmed_up=warmed_up)

    def _end(self, profile: Profile) -> NoReturn:
        row = summary.write_case(self._folder, self._case, profile)
        self._node.user_properties.append((PROPERTY, asdict(row)))
        # What the test would do with the result has been done in the run that started this process.
        pytest.skip("profiled")
