"""What do the cases of the attention mechanisms share? One thread on a CPU, also around timed calls."""

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
