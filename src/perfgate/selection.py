"""Which collected tests can this machine run, and what has been collected?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from perfgate import markers
from perfgate.errors import SettingError
from perfgate.static.targets import PLACEHOLDER


def is_case(item: pytest.Item) -> bool:
    """Whether a test is a case of the gate: it uses the ``benchmark`` fixture, or gates compiled code."""
    return "benchmark" in getattr(item, "fixturenames", ()) or is_compiled(item)


def is_compiled(item: pytest.Item) -> bool:
    """Whether a test is a case whose figures come from compiled code."""
    if item.get_closest_marker("static") is None:
        return False
    from perfgate.static import marker

    return marker.names_launches(item)


def apply(items: Iterable[pytest.Item]) -> None:
    """Add implied markers, and skip what this machine cannot run, with the reason.

    Raises:
        SettingError: a marker of perfgate cannot be used.
    """
    for item in items:
        marks = [(mark.name, mark.args, dict(mark.kwargs)) for mark in item.iter_markers()]
        names = {name for name, _, _ in marks}
        if "perf" in names:
            from perfgate import plan

            plan.of(item)
        if not names & markers.MARKERS.keys():
            continue
        for name in sorted(markers.implied(names) - names):
            item.add_marker(name)
        # The machine is looked at only when a marker asks.
        from perfgate import hardware

        reason = markers.skip_reason(marks, hardware.detect())
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


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
