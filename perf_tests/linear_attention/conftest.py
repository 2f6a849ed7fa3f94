"""What do cases of the attention mechanisms share? One thread on a CPU; on a GPU first calls that can be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest, torch: ModuleType) -> Iterator[None]:
    """Train a case marked cpu with one thread: small operators gain nothing from more, and then they wait for both."""
    if request.node.get_closest_marker("cpu") is None:
        yield
        return
    from perfgate.measure.threads import pinned

    with pinned(1):
        yield


@pytest.fixture(autouse=True)
def first_calls_are_bearable(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile on all processors, and show that it goes on: for minutes, where fla's kernels are new."""
    if request.node.get_closest_marker("cpu") is not None or "benchmark" not in request.fixturenames:
        yield
        return
    from perf_workloads.compiling import MOST_THREADS, compiled_kernels_shown, configurations_compiled_together
    from perfgate.hardware.sources import affinity

    together = configurations_compiled_together(min(affinity(), MOST_THREADS))
    with together, compiled_kernels_shown(request.getfixturevalue("benchmark").progress):
        yield
