"""How do rounds that a child process timed get into pytest-benchmark's table and files? As if they were timed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from perfgate.fixture import PerfBenchmark


def to_json(fixture: PerfBenchmark | None) -> dict[str, Any] | None:
    """Give what pytest-benchmark shows of a finished test; None when nothing was timed."""
    if fixture is None or fixture.stats is None:
        return None
    return {
        "seconds": list(fixture.stats.stats.data),
        "iterations": fixture.stats.iterations,
        "group": fixture.group,
        # A test may note what JSON does not know.
        "extra_info": json.loads(json.dumps(fixture.extra_info, default=str)),
        "has_error": fixture.has_error,
    }


def replay(item: pytest.Item, rounds: Mapping[str, Any]) -> None:
    """Hand the rounds of a test to the pytest-benchmark of this process.

    Args:
        item: the test.
        rounds: what :func:`to_json` gave in the process that it ran in.
    """
    from perfgate import fixture, hardware

    request = cast(pytest.FixtureRequest, SimpleNamespace(config=item.config, node=item))
    made = fixture.make(request, hardware=hardware.detect, gated=False)
    made.group, made.has_error = rounds["group"], rounds["has_error"]
    made.extra_info.update(rounds["extra_info"])
    stats = made._make_stats(rounds["iterations"]).stats
    # Not through the object around it, which divides by the iterations once more.
    for seconds in rounds["seconds"]:
        stats.update(seconds)
