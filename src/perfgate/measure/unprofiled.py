"""Is a call timed without a profiler? Torch's slows a call down by half and more: such a time must not be reported."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from perfgate.errors import SettingError
from perfgate.measure import profilers


@contextlib.contextmanager
def unprofiled() -> Iterator[None]:
    """Refuse to measure while torch's profiler runs, and refuse to let the measured call start it.

    Raises:
        SettingError: the profiler runs, or was started inside the block.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    if torch.autograd._profiler_enabled():
        raise _refusal("this call is to be measured while torch's profiler runs")
    announcing = torch.autograd.profiler
    original = announcing._run_on_profiler_start
    started: list[SettingError] = []

    def refuse() -> None:
        # torch has prepared it by now.
        profilers.count()
        started.append(_refusal("the measured call starts torch's profiler"))
        raise started[0]

    # Every profiler of torch announces itself here. That costs a call that starts none nothing.
    announcing._run_on_profiler_start = refuse
    try:
        yield
    finally:
        announcing._run_on_profiler_start = original
    if started:
        # The call has swallowed it.
        raise started[0]


def _refusal(what: str) -> SettingError:
    return SettingError(
        what,
        "The profiler slows a call down by half and more: its time would not be the time of the call.",
        "measure without it; for a profile of each case: --perf-profile",
    )
