"""How does the base's process run its own code? Every way into the working tree leads to its checkout instead.

Started in place of pytest: ``python -m perfgate.ab.launch ARGUMENTS``. An editable install, a path file and
``PYTHONPATH`` all lead to the working tree, because it is what is installed. Before anything of the repository is
imported, entries of ``sys.path`` are turned to the checkout, and a finder in front of all others turns every module
that is found in the working tree nevertheless. What is missing in the checkout is missing: there is no way back to the
working tree's. Afterwards the modules are looked through: one that came from the working tree is told to the parent.

Environments inside of the working tree (``.venv``) stay as they are.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import site
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

#: Names a file with what this process has to know; its answer is written beside it.
VARIABLE = "PERFGATE_AB"
ANSWER = "answer.json"
_BASELINES = "PERFGATE_BASELINES"


class Ways:
    """Ways from the working tree to the checkout.

    Args:
        root: top folder of the working tree.
        tree: the checkout.
        kept: folders in the working tree that are neither side's: of environments.
    """

    def __init__(self, root: Path, tree: Path, kept: Sequence[Path] = ()) -> None:
        self.root, self.tree = os.path.realpath(root), os.path.realpath(tree)
        # An environment around the working tree (a checkout in /usr/src, say) says nothing about what is in it.
        self._kept = tuple(real for real in map(os.path.realpath, kept) if _within(real, self.root))

    def leads_in(self, path: str | None) -> bool:
        """Whether a path lies in the working tree."""
        if not path or not os.path.isabs(path):
            return False
        real = os.path.realpath(path)
        return _within(real, self.root) and not any(_within(real, kept) for kept in (self.tree, *self._kept))

    def turned(self, path: str) -> str:
        """Give the same place in the checkout; any other path as it is."""
        if not self.leads_in(path):
            return path
        return os.path.normpath(os.path.join(self.tree, os.path.relpath(os.path.realpath(path), self.root)))


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class TurningFinder(MetaPathFinder):
    """Asks the other finders, and turns what they found in the working tree."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module; one that only the working tree has is not there."""
        # Those in front of this one (pytest's) have been asked.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find is not None else None
            if spec is not None:
                return self._turned(spec)
        return None

    def _turned(self, spec: importlib.machinery.ModuleSpec) -> importlib.machinery.ModuleSpec:
        folders = spec.submodule_search_locations
        places = [self._ways.turned(folder) for folder in folders] if folders is not None else None
        if spec.origin is None or not self._ways.leads_in(spec.origin):
            if folders is not None and places != list(folders):
                # A namespace package has folders and no file.
                spec.submodule_search_locations = [place for place in places or () if os.path.isdir(place)]
            return spec
        origin = self._ways.turned(spec.origin)
        turned = None
        if os.path.exists(origin):
            turned = importlib.util.spec_from_file_location(spec.name, origin, submodule_search_locations=places)
        if turned is None:
            built = spec.origin.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
            why = ": it is compiled, in the working tree only" if built else ""
            raise ModuleNotFoundError(f"No module named {spec.name!r}{why}", name=spec.name)
        return turned


class Witness:
    """Notes which modules of tests were collected, and why others could not be, for the parent."""

    def __init__(self) -> None:
        self.collected: dict[str, str] = {}
        self.uncollected: dict[str, str] = {}

    def pytest_collectreport(self, report: Any) -> None:
        """Note how a collector ended; one that skips itself has no tests either."""
        if report.failed and report.nodeid:
            self.uncollected[report.nodeid] = str(report.longrepr)
        elif report.skipped and report.nodeid:
            said = report.longrepr
            self.uncollected[report.nodeid] = str(said[2] if isinstance(said, tuple) else said)
        elif report.nodeid.endswith(".py"):
            self.collected[report.nodeid] = ""


def environments() -> list[Path]:
    """Give the folders of the interpreter and of what is installed."""
    folders = [sys.prefix, sys.base_prefix, *site.getsitepackages(), site.getusersitepackages()]
    root = os.path.dirname(os.__file__)
    return [Path(folder) for folder in (*folders, root) if os.path.isdir(folder)]


def turn(ways: Ways) -> None:
    """Turn every way into the working tree, for this process and for those that it starts."""
    turned = [ways.turned(entry) for entry in sys.path]
    roots = [new for old, new in zip(sys.path, turned, strict=True) if new != old]
    sys.path[:] = turned
    for name, module in list(sys.modules.items()):
        # setuptools' editable finder knows packages by name; a process started from here finds them by its path.
        mapping = getattr(module, "MAPPING", None) if name.startswith("__editable__") else None
        for place in mapping.values() if isinstance(mapping, dict) else ():
            if ways.leads_in(place):
                roots.append(ways.turned(os.path.dirname(place)))
    sys.meta_path.insert(0, TurningFinder(ways))
    given = [ways.turned(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if path := dict.fromkeys([*given, *roots]):
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
    if _BASELINES in os.environ:
        # Tuned configurations are part of what is measured.
        os.environ[_BASELINES] = ways.turned(os.environ[_BASELINES])
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in ("__main__", "perfgate") and ways.leads_in(_file(module)):
            del sys.modules[name]


def strangers(ways: Ways) -> dict[str, str]:
    """Give the modules that came from the working tree, with their files."""
    found = {name: _file(module) for name, module in list(sys.modules.items())}
    return {name: file for name, file in sorted(found.items()) if file and ways.leads_in(file)}


def installed(ways: Ways) -> dict[str, str]:
    """Give the packages of the repository that were imported from an installed copy instead, with their files.

    Such a copy is neither side's: both would run the same code, and nothing would ever be slower.
    """
    found = {}
    for name, module in list(sys.modules.items()):
        file = _file(module)
        if "." in name or name == "perfgate" or file is None or name in sys.stdlib_module_names:
            continue
        if _within(os.path.realpath(file), ways.tree) or ways.leads_in(file):
            continue
        if any(os.path.exists(os.path.join(ways.tree, root, name, "__init__.py")) for root in ("", "src")):
            found[name] = file
    return found


def _file(module: ModuleType | None) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None


def read_answer(task: Path) -> dict[str, dict[str, str]]:
    """Read what the base's processes told so far beside their measurements; one that died told nothing."""
    path = task.with_name(ANSWER)
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: dict(told.get(name, ())) for name in ("collected", "uncollected", "strangers", "installed")}


def main() -> int:
    """Run pytest on the base."""
    place = Path(os.environ.pop(VARIABLE))
    task = json.loads(place.read_text(encoding="utf-8"))
    ways = Ways(Path(task["root"]), Path(task["tree"]), environments())
    turn(ways)
    import pytest

    witness = Witness()
    code = pytest.main(sys.argv[1:], plugins=[witness])
    told = (witness.collected, witness.uncollected, strangers(ways), installed(ways))
    # A process that goes on where another one ended knows nothing of what that one imported.
    before = read_answer(place)
    answer = {name: {**before[name], **now} for name, now in zip(before, told, strict=True)}
    place.with_name(ANSWER).write_text(json.dumps(answer), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
