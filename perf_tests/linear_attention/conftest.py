"""What do the cases of the attention mechanisms share? One thread on a CPU, and signs of life on a GPU."""

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
def first_calls_show_progress(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show that a case on a GPU goes on while its kernels are compiled and tuned: for minutes, where fla's are new."""
    if request.node.get_closest_marker("cpu") is not None or "benchmark" not in request.fixturenames:
        yield
        return
    from perf_workloads.compiling import compiled_kernels_shown

    with compiled_kernels_shown(request.getfixturevalue("benchmark").progress):
        yield
