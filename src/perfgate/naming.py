"""What is a case called? In baselines, verdicts and fresh processes by the node id that it was collected under.

With ``--dist loadgroup`` pytest-xdist appends "@" and the name of its group to the node id of each test that is marked
``xdist_group``. No baseline and no fresh process knows a case by that name.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

_CASE = pytest.StashKey[str]()


def remember(items: Iterable[pytest.Item]) -> None:
    """Note the ids of collected tests before a plugin changes them."""
    for item in items:
        item.stash[_CASE] = item.nodeid


def case_of(item: pytest.Item) -> str:
    """Give the id of a test in baselines and verdicts; pytest's own reports go by ``item.nodeid``."""
    return item.stash.get(_CASE, item.nodeid)


def group_of(item: pytest.Item) -> str:
    """Give the name of the ``isolate`` group whose tests share a process with this one; "" when it is in none."""
    marker = item.get_closest_marker("isolate")
    group = marker.kwargs.get("group") if marker is not None else None
    return group if isinstance(group, str) else ""
