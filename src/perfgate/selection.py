"""Which collected tests can this machine run, and what has been collected?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from perfgate import markers
from perfgate.errors import SettingError
from perfgate.static.targets import PLACEHOLDER

#: Why a test cannot be run as its markers say.
MISUSED = pytest.StashKey[SettingError]()


def is_case(item: pytest.Item) -> bool:
    """Whether a test is a case of the gate: it uses the ``benchmark`` fixture, or gates compiled code."""
    return "benchmark" in getattr(item, "fixturenames", ()) or is_compiled(item)


def is_compiled(item: pytest.Item) -> bool:
    """Whether a test is a case whose figures come from compiled code."""
    if item.get_closest_marker("static") is None:
        return False
    from perfgate.static import marker

    return marker.names_launches(item)


def apply(items: Iterable[pytest.Item], root: Path, *, gated: bool) -> None:
    """Add implied markers, and skip what this machine cannot run, with the reason.

    A marker that cannot be used is an error of its own test. With the gate off it may be another plugin's: then it is
    looked at only where a test uses ``benchmark`` or runs in isolation.

    Args:
        items: everything collected.
        root: pytest's root folder.
        gated: whether cases are measured by the gate in this run.

    Raises:
        SettingError: with the gate on, a case goes by the name of another test.
    """
    for item in items:
        case, isolated = is_case(item), item.get_closest_marker("isolate") is not None
        if gated and case:
            _check_place(item, root)
        try:
            if isolated:
                _check_place(item, root)
            if case:
                from perfgate import plan

                plan.of(item)
            _apply(item)
        except SettingError as error:
            if gated or case or isolated:
                item.stash[MISUSED] = error


def _apply(item: pytest.Item) -> None:
    """Add the markers that a test's own imply, and skip it where this machine lacks what they need.

    Raises:
        SettingError: one of them cannot be used.
    """
    marks = [(mark.name, mark.args, dict(mark.kwargs)) for mark in item.iter_markers()]
    names = {name for name, _, _ in marks}
    if not names & markers.MARKERS.keys():
        return
    for name in sorted(markers.implied(names) - names):
        item.add_marker(name)
    # The machine is looked at only when a marker asks.
    from perfgate import hardware

    reason = markers.skip_reason(marks, hardware.detect())
    if reason is not None:
        item.add_marker(pytest.mark.skip(reason=reason))


def _check_place(item: pytest.Item, root: Path) -> None:
    """Make sure that the id of a test, taken from the root, leads to the test.

    pytest takes ids from the path it was given where that is outside its root, as the second of two projects is.

    Raises:
        SettingError: it leads elsewhere.
    """
    named = root / item.nodeid.split("::", 1)[0]
    if named == item.path or os.path.realpath(named) == os.path.realpath(item.path):
        return
    raise SettingError(
        f"{item.path}: pytest calls its test {item.nodeid}, as if it were {named}",
        "Baselines and fresh processes know a test by that name alone, and would take another one.",
        f"run pytest once for each project: not everything given is in {root}",
    )


def by_module(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """Give the node ids of all cases by the path of their module."""
    modules: dict[str, list[str]] = {}
    for item in items:
        if is_case(item):
            modules.setdefault(item.nodeid.split("::", 1)[0], []).append(item.nodeid)
    return modules


def covered(module: Path, arguments: Iterable[str], cwd: Path) -> bool:
    """Whether the arguments of a run name a module as a whole: itself or a folder above it, and not one test of it."""
    for argument in arguments:
        if "::" not in argument:
            path = (cwd / argument).resolve()
            if module.resolve() == path or path in module.resolve().parents:
                return True
    return False


def write_collected(
    items: Iterable[pytest.Item], modules: Iterable[str], root: Path, baselines: Path, path: str
) -> None:
    """Write what was collected where ``perfgate prune`` reads it.

    Args:
        items: everything collected, before anything is deselected.
        modules: paths of all collected modules, those without a case too.
        root: pytest's root folder.
        baselines: folder of the baselines.
        path: the file to write.

    Raises:
        SettingError: without a compiler not every case is known.
    """
    cases = by_module(items)
    unknown = [case for found in cases.values() for case in found if case.endswith(f"[{PLACEHOLDER}]")]
    if unknown:
        raise SettingError(
            f"{unknown[0]}: without a compiler nobody knows which launches there are",
            "Their baselines would seem unused.",
            "pip install torch triton",
        )
    document = {
        "modules": {
            module: [case.partition("::")[2] for case in cases.get(module, ())] for module in {*modules, *cases}
        },
        "rootdir": str(root),
        "baselines": str(baselines),
    }
    Path(path).write_text(json.dumps(document), encoding="utf-8")
