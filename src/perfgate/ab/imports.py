"""Which files of this repository does a Python file need? Read from its imports; nothing is run.

A string that names a module of the repository counts as an import too: a ``static`` marker names its launches that way,
and a process is started that way. So more is found than is needed, never less, as far as names are written out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Needs:
    """What a file needs, as paths from the top folder.

    Attributes:
        always: whatever is used of it.
        by_test: what only some of its tests need, by the name of the function or class.
        arguments: the names of the arguments of each of its functions, ``TestA::test_b`` for a method.
        fixtures: those of its functions that are fixtures.
    """

    always: frozenset[str] = frozenset()
    by_test: Mapping[str, frozenset[str]] = field(default_factory=dict)
    arguments: Mapping[str, frozenset[str]] = field(default_factory=dict)
    fixtures: frozenset[str] = frozenset()


class Resolver:
    """Finds the file of a module.

    Args:
        files: every Python file, as a path from the top folder; also those that are gone.
        roots: folders that modules are imported from, "" for the top folder.
    """

    def __init__(self, files: Iterable[str], roots: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._roots = tuple(dict.fromkeys(roots))

    def files_of(self, module: str, beside: str = "") -> Iterator[str]:
        """Give the files that importing a module runs: its own, and those of the packages around it.

        Args:
            module: its name.
            beside: folder of the file that imports it, where modules are found too.
        """
        parts = module.split(".")
        for root in dict.fromkeys((*self._roots, beside)):
            found = []
            for depth in range(1, len(parts) + 1):
                place = "/".join([*filter(None, [root]), *parts[:depth]])
                found += [file for file in (f"{place}.py", f"{place}/__init__.py") if file in self._files]
            yield from found

    def is_module(self, name: str) -> bool:
        """Whether a dotted name leads to a file of the repository, all of it."""
        parts = "/".join(name.split("."))
        return any(
            f"{prefix}{parts}{end}" in self._files
            for prefix in (f"{root}/" if root else "" for root in self._roots)
            for end in (".py", "/__init__.py")
        )


def read(path: str, source: str, resolver: Resolver) -> Needs:
    """Read what a file needs; a file that cannot be parsed needs nothing.

    Args:
        path: of the file, from the top folder.
        source: its text.
        resolver: finds modules.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Needs()
    reader = _Reader(path, resolver)
    always: set[str] = set()
    by_test: dict[str, frozenset[str]] = {}
    arguments: dict[str, frozenset[str]] = {}
    fixtures: set[str] = set()
    for statement in tree.body:
        needed = frozenset(reader.needed(statement))
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for name, function in _functions(statement):
                arguments[name] = frozenset(each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg))
                if any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list):
                    fixtures.add(name.rpartition("::")[2])
            if statement.name.startswith(("test", "Test")):
                by_test[statement.name] = needed
                continue
        always |= needed
    return Needs(frozenset(always), by_test, arguments, frozenset(fixtures))


def _functions(statement: ast.stmt) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name, statement
    elif isinstance(statement, ast.ClassDef):
        for inner in statement.body:
            for name, function in _functions(inner):
                yield f"{statement.name}::{name}", function


class _Reader:
    """Finds what is imported in one file.

    Args:
        path: of the file, from the top folder.
        resolver: finds modules.
    """

    def __init__(self, path: str, resolver: Resolver) -> None:
        self._folder = str(PurePosixPath(path).parent) if "/" in path else ""
        self._resolver = resolver

    def needed(self, statement: ast.stmt) -> Iterator[str]:
        """Give the files that a statement, and all in it, may import."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._resolver.files_of(alias.name, self._folder)
            elif isinstance(node, ast.ImportFrom):
                yield from self._of_from(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value.partition(":")[0]
                if "." in name and all(map(str.isidentifier, name.split("."))) and self._resolver.is_module(name):
                    yield from self._resolver.files_of(name)

    def _of_from(self, node: ast.ImportFrom) -> Iterator[str]:
        names = [alias.name for alias in node.names]
        if node.level == 0:
            assert node.module is not None
            for name in names:
                # What is imported from a package may be a module of it.
                yield from self._resolver.files_of(f"{node.module}.{name}", self._folder)
            return
        folder = PurePosixPath(self._folder)
        for _ in range(node.level - 1):
            folder = folder.parent
        inside = Resolver(self._resolver._files, ["" if str(folder) == "." else str(folder)])
        yield from inside.files_of("__init__")
        for name in names:
            yield from inside.files_of(".".join(filter(None, [node.module, name])))
