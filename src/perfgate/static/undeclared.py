"""Does a test launch a kernel as no declared launch does? Then it fails, unless a marker says why it may.

Registered by the ``conftest.py`` of a folder of kernels, for the tests below it::

    def pytest_configure(config):
        undeclared.register(config, Path(__file__).parent, lambda: "sm90")

A marker that nothing needs is told after the last test, and fails the run. Seen are launches of the process that runs
the tests: those of a process that a test starts are not.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from perfgate.static import tested, undeclared_marker
from perfgate.static.figures import Form
from perfgate.static.launched import UndeclaredLaunch, declared_in
from perfgate.static.pool import shared
from perfgate.static.tested import Nearest
from perfgate.static.undeclared_marker import Marker, Use

#: Forms of one kernel that are told one by one.
_SHOWN = 2
_TITLE = "undeclared launches"
_OUTPUT = "perfgate_undeclared_launches"


def register(config: pytest.Config, folder: Path, target: Callable[[], str | None], *, strict: bool = True) -> None:
    """Watch the tests of a folder.

    Args:
        config: of the run.
        folder: holds the tests.
        target: names the target that kernels are launched on; None where the static gate has none like it.
        strict: fail, and tell markers that nothing needs. Otherwise only warn, and let what was tuned for this hardware
            count as declared: on a GPU, launchers choose that, and tests draw more and larger sizes.
    """
    config.pluginmanager.register(_Watch(config, folder, functools.cache(target), strict))


class _Watch:
    """The plugin; see :func:`register`."""

    def __init__(self, config: pytest.Config, folder: Path, target: Callable[[], str | None], strict: bool) -> None:
        self._config = config
        self._folder = folder
        self._target = target
        self._strict = strict
        self._launched: Mapping[str, Form] = {}
        self._uses: dict[Marker, Use] = {}
        self._place = functools.cache(declared_in)
        self._known = functools.cache(self._look_up)

    def _is_mine(self, item: pytest.Item) -> bool:
        return item.path.is_relative_to(self._folder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note which tests a marker is for, before any of them is deselected."""
        for item in filter(self._is_mine, items):
            for marker in undeclared_marker.markers_of(item):
                self._uses.setdefault(marker, Use()).tests.add(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Any:
        """Have the declared launches looked at while the first tests run."""
        if self._config.getoption("dist", "no") == "no" and not self._config.option.collectonly:
            names = {item.module.__name__ for item in session.items if self._is_mine(item) and hasattr(item, "module")}
            places = sorted({place for name in names if (place := self._place(name)) is not None})
            if places and (target := self._target()) is not None:
                shared().submit(tested.question(place, target) for place in places)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Watch a test, with the fixtures that are made for it."""
        if not self._is_mine(item) or self._target() is None:
            return (yield)
        with tested.watched() as self._launched:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        """Fail a test that launched what its markers do not allow, or warn of it."""
        result = yield
        if self._is_mine(item) and self._target() is not None:
            markers = undeclared_marker.markers_of(item)
            problem = self._problem(markers)
            if problem and self._strict:
                pytest.fail(problem, pytrace=False)
            elif problem:
                item.warn(UndeclaredLaunch(problem))
            for marker in markers:
                self._uses.setdefault(marker, Use()).done.add(item.nodeid)
        return result

    def _problem(self, markers: Sequence[Marker]) -> str:
        """Say what was launched that no launch declares and no marker allows; nothing where there is none."""
        by_kernel: dict[str, list[Form]] = {}
        for form in self._launched.values():
            by_kernel.setdefault(form.kernel, []).append(form)
        told: list[str] = []
        names: dict[str, None] = {}
        places: dict[str, None] = {}
        for kernel, forms in by_kernel.items():
            module, _, name = kernel.rpartition(".")
            place = self._place(module)
            known = self._known(place, kernel) if place is not None else None
            if place is None or known is None:
                continue
            if not known:
                missing = self._refused([name], markers)
                lines = [f"{name} is launched, and no launch of {place} launches it"] if missing else []
            else:
                found = [near for form in forms if (near := self._refused_form(form, known, markers))]
                missing = [name for near in found for name in near.changes]
                lines = _lines(name, place, found)
            told += lines
            names |= dict.fromkeys(missing)
            places |= dict.fromkeys([place] if lines else [])
        if not told:
            return ""
        return "\n".join([*told, *_advice(list(map(_file, places)), names)])

    def _refused_form(
        self, form: Form, known: Sequence[tuple[str, tested.Values]], markers: Sequence[Marker]
    ) -> Nearest | None:
        """Give the declared launch nearest to one, with what markers do not allow; None where they allow it all."""
        values = tested.values(form)
        near = tested.nearest(values, known, undeclared_marker.allowed(markers, values))
        refused = self._refused(near.changes, markers)
        return Nearest(near.launch, {name: near.changes[name] for name in refused}) if refused else None

    def _refused(self, names: Collection[str], markers: Sequence[Marker]) -> list[str]:
        """Give the names that no marker allows; where all are allowed, note which markers were needed."""
        permitted = undeclared_marker.allowed(markers, names)
        refused = [name for name in names if name not in permitted]
        if not refused:
            for marker in markers:
                self._uses.setdefault(marker, Use()).needed |= bool(marker.matching(names))
        return refused

    def _look_up(self, place: str, kernel: str) -> list[tuple[str, tested.Values]] | None:
        """Give the declared launches of a kernel; None where there is no compiler.

        Raises:
            pytest.fail.Exception: they cannot be looked at.
        """
        target = self._target()
        assert target is not None
        answer = shared().ask(tested.question(place, target))
        if answer.status == "no_compiler":
            return None
        if answer.status != "compiled":
            told = f"{_file(place)}: its launches cannot be looked at: {answer.reason}\n{answer.detail}"
            pytest.fail(told.rstrip(), pytrace=False)
        return tested.declared(answer, kernel, tuned=not self._strict)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker of pytest-xdist found."""
        undeclared_marker.add_plain(self._uses, getattr(node, "workeroutput", {}).get(_OUTPUT, ()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Send what this worker found, or fail the run for markers that nothing needs."""
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[_OUTPUT] = undeclared_marker.to_plain(self._uses)
        elif exitstatus == pytest.ExitCode.OK and self._unneeded():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tell the markers that nothing needs."""
        if lines := self._unneeded():
            terminalreporter.section(_TITLE, red=True)
            for line in lines:
                terminalreporter.line(line)

    def _unneeded(self) -> list[str]:
        # A selection within a file leaves out tests that may need its markers.
        partly = any("::" in argument for argument in self._config.args) or self._config.getoption("lf", False)
        return undeclared_marker.unneeded(self._uses) if self._strict and not partly else []


def _lines(name: str, place: str, found: Sequence[Nearest]) -> list[str]:
    """Tell of the launches of a kernel how each differs from the nearest declared one."""
    lines = []
    for near in found[:_SHOWN]:
        lines.append(f"{name} is launched as no launch of {place} does; nearest is {near.launch}, but for")
        lines += [f"    {tested.change_text(*change)}" for change in near.changes.items()]
    if (more := len(found) - _SHOWN) > 0:
        lines.append(f"  and in {more} more form{'s' if more > 1 else ''}")
    return lines


def _advice(files: Collection[str], names: Collection[str]) -> list[str]:
    """Say what to type."""
    texts = ", ".join(f'"{name}"' for name in ("why", *names))
    return [
        "The static gate compiles nothing that is not declared.",
        f"hint: if users launch it, add it to LAUNCHES in {' and '.join(files)}; if only this test does, write "
        f"@pytest.mark.{undeclared_marker.NAME}({texts})",
    ]


def _file(place: str) -> str:
    """Give the path of a module, as short as can be."""
    spec = importlib.util.find_spec(place)
    return os.path.relpath(spec.origin) if spec is not None and spec.origin else place
