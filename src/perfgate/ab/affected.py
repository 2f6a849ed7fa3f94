"""Which performance cases can a change reach? Follows imports backwards from what changed to the tests.

- A module reaches every file that imports it, directly or through others, up to the test modules; where only some tests
  of a module name it, those alone.
- A file that is not Python (a CUDA source, a table) reaches what the modules beside it reach, and a tuned configuration
  its kernel.
- A ``conftest.py`` reaches the tests of its folder.
- pytest's settings, dependencies and plugins of pytest that the repository itself provides reach everything.
- Documentation, workflows and stored baselines reach nothing.
"""

from __future__ import annotations

import configparser
import contextlib
import fnmatch
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from perfgate.ab import git
from perfgate.ab.imports import Needs, Resolver, read
from perfgate.baseline.layout import TUNING
from perfgate.static.find import source_roots

_EVERYTHING = (
    *("pyproject.toml", "setup.py", "setup.cfg", "pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "tox.ini"),
    *("*.lock", "Pipfile*", "*requirements*.txt", "*requirements*.in", "*constraints*.txt", "environment.y*ml"),
    *(".python-version", "meson.build", "CMakeLists.txt"),
)
_NOTHING = ("*.md", "*.rst", "*.adoc", "LICENSE*", "NOTICE*", "CODEOWNERS", ".git*", ".editorconfig", ".pre-commit*")
_NOTHING_BELOW = ("docs", "doc", ".github", ".ci", ".gitlab", ".circleci", ".vscode", ".devcontainer")
#: A folder with one of these is a project.
_PROJECT = ("pyproject.toml", "setup.py", "setup.cfg", "pytest.ini", "tox.ini")
_CONFTEST = "conftest.py"
_TEST_FILES = ("test_*.py", "*_test.py")
#: Arguments that make a test a case.
_OF_CASES = frozenset({"benchmark", "compiled"})


@dataclass(frozen=True)
class Affected:
    """What a change reaches.

    Attributes:
        arguments: for pytest, in order: folders, modules and node ids.
        everything: why all cases are reached; "" when only some are.
        changed: the files that differ.
    """

    arguments: tuple[str, ...]
    everything: str
    changed: tuple[str, ...]


def find(ref: str, folder: Path) -> Affected:
    """Find the cases that differ, or may, between a ref and the working tree.

    Args:
        ref: as the user named it; its last commit in common with the checked-out one counts.
        folder: any folder of the working tree; the arguments are told from there.

    Raises:
        SettingError: there is no such commit, or no repository.
    """
    flag = f"affected {ref}"
    base = git.resolve(f"{ref.removesuffix('...')}...", folder, flag)
    changed = git.changed(base.commit, base.root)
    tree = Tree(base.root, changed)
    reason = next((path for path in changed if tree.reaches_everything(path)), "")
    reached = tree.everything() if reason else tree.reached_by(changed)
    here = folder.resolve()
    return Affected(tuple(os.path.relpath(base.root / each, here) for each in reached), reason, tuple(changed))


class Tree:
    """The files of a repository and what they need of each other.

    Args:
        root: its top folder.
        changed: paths that differ, those of files that are gone among them.
    """

    def __init__(self, root: Path, changed: Iterable[str] = ()) -> None:
        self._root = root
        listed = git.paths(["ls-files", "--cached", "--others", "--exclude-standard", "-z"], root)
        there = [path for path in dict.fromkeys(listed) if (root / path).is_file()]
        self._python = [path for path in there if path.endswith(".py")]
        #: Folders of projects; a repository may hold several.
        self._projects = sorted({"", *(os.path.dirname(path) for path in there if os.path.basename(path) in _PROJECT)})
        gone = [path for path in changed if path.endswith(".py") and path not in set(self._python)]
        self._resolver = Resolver([*self._python, *gone], self._roots())
        self._needs = {path: read(path, self._text(path), self._resolver) for path in self._python}
        self._plugins = tuple(self._own_plugins())
        self._cases = self._case_modules()

    def everything(self) -> list[str]:
        """Give the folders that hold all cases."""
        tops = dict.fromkeys(path.partition("/")[0] for path in self._cases)
        if len(tops) == 1 and "/" in next(iter(self._cases)):
            return [os.path.commonpath([os.path.dirname(path) for path in self._cases])]
        return list(tops)

    def reaches_everything(self, path: str) -> bool:
        """Whether a changed file reaches all cases."""
        name = PurePosixPath(path).name
        if name == _CONFTEST:
            return "/" not in path
        if any(path.startswith(plugin) for plugin in self._plugins):
            return True
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in _EVERYTHING) and not _says_nothing(path)

    def reached_by(self, changed: Iterable[str]) -> list[str]:
        """Give what pytest has to run, for these changed files."""
        reached = set(self._seeds(changed))
        importers: dict[str, set[str]] = {}
        for path, needs in self._needs.items():
            for needed in needs.always.union(*needs.by_test.values()) if not self._is_test(path) else needs.always:
                importers.setdefault(needed, set()).add(path)
        new = set(reached)
        while new:
            new = set().union(*(importers.get(path, set()) for path in new)) - reached
            reached |= new
        folders = sorted({os.path.dirname(path) for path in reached if PurePosixPath(path).name == _CONFTEST})
        found: list[str] = []
        for module, functions in sorted(self._cases.items()):
            if any(folder == "" or module.startswith(f"{folder}/") for folder in folders) or module in reached:
                found.append(module)
                continue
            by_test = self._needs[module].by_test
            names = [name for name in by_test if by_test[name] & reached]
            cases = [name for name in names if any(case.partition("::")[0] == name for case in functions)]
            found += [f"{module}::{name}" for name in cases]
        return found

    def _seeds(self, changed: Iterable[str]) -> Iterator[str]:
        """Give the Python files that changed, and those beside other files that did."""
        for path in changed:
            if path.endswith(".py"):
                yield path
            elif (kernel := _tuned(path)) is not None:
                yield from (each for each in self._python if kernel in PurePosixPath(each).parent.parts)
            elif not _says_nothing(path) and "/" in path:
                yield from self._beside(path)

    def _beside(self, path: str) -> list[str]:
        """Give the Python files in the folder of a file, or the nearest folder around it that has some."""
        for folder in PurePosixPath(path).parents:
            found = [each for each in self._python if PurePosixPath(each).parent == folder]
            if str(folder) == ".":
                break
            if found:
                return found
        return []

    def _is_test(self, path: str) -> bool:
        return any(fnmatch.fnmatchcase(PurePosixPath(path).name, pattern) for pattern in _TEST_FILES)

    def _case_modules(self) -> dict[str, tuple[str, ...]]:
        """Give the modules that hold cases, with the names of these: tests that use ``benchmark`` or ``compiled``.

        A fixture that uses one of them makes cases of the tests that use it.
        """
        names = set(_OF_CASES)
        known: Mapping[str, Needs] = {
            path: needs for path, needs in self._needs.items() if self._is_test(path) or path.endswith(_CONFTEST)
        }
        while True:
            more = {
                name.rpartition("::")[2]
                for needs in known.values()
                for name, arguments in needs.arguments.items()
                if name.rpartition("::")[2] in needs.fixtures and arguments & names
            }
            if more <= names:
                break
            names |= more
        cases = {}
        for path, needs in known.items():
            # A module may have a fixture of its own by the name.
            other = {name for name in needs.fixtures if not needs.arguments.get(name, frozenset()) & names}
            found = [
                name
                for name, arguments in needs.arguments.items()
                if name.rpartition("::")[2].startswith("test") and arguments & (names - other)
            ]
            if found and self._is_test(path):
                cases[path] = tuple(found)
        return cases

    def _roots(self) -> list[str]:
        """Give the folders that modules are imported from: of each project pytest's ``pythonpath``, ``src`` and itself.

        Those that hold packages count too, whatever a build makes of them.
        """
        top = self._root.resolve()
        inner = []
        for project in self._projects:
            with contextlib.suppress(tomllib.TOMLDecodeError, configparser.Error):
                named = [root for root in source_roots(self._root / project) if root.is_relative_to(top)]
                inner += [root.relative_to(top).as_posix() for root in named]
            inner += [os.path.join(project, "src"), project]
        packages = {os.path.dirname(path) for path in self._python if os.path.basename(path) == "__init__.py"}
        inner += sorted({os.path.dirname(package) for package in packages if package} - packages)
        return ["" if root == "." else root for root in inner]

    def _own_plugins(self) -> Iterator[str]:
        """Give the start of the paths of pytest plugins that this repository installs."""
        for folder in self._projects:
            project = self._root / folder / "pyproject.toml"
            try:
                document = tomllib.loads(project.read_text(encoding="utf-8")) if project.is_file() else {}
            except tomllib.TOMLDecodeError:
                continue
            points = document.get("project", {}).get("entry-points", {}).get("pytest11", {})
            for place in points.values():
                package = re.split(r"[.:]", str(place))[0]
                for file in self._resolver.files_of(package):
                    yield file.removesuffix("__init__.py")

    def _text(self, path: str) -> str:
        return (self._root / path).read_text(encoding="utf-8", errors="replace")


def _says_nothing(path: str) -> bool:
    """Whether a file has nothing to say to any program: documentation, workflows."""
    parts = PurePosixPath(path).parts
    if parts[0] in _NOTHING_BELOW:
        return True
    return any(fnmatch.fnmatchcase(parts[-1], pattern) for pattern in _NOTHING)


def _tuned(path: str) -> str | None:
    """Give the kernel whose tuned configurations a file holds."""
    parts = PurePosixPath(path).parts
    return PurePosixPath(path).stem if len(parts) >= 3 and parts[-2] == TUNING and path.endswith(".json") else None
