"""Which tests did a commit have? Reads its files as git stores them, and runs none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath

from perfgate.ab import git


def functions(source: str) -> frozenset[str]:
    """Give the names of the test functions in a module, as node ids have them: ``test_a``, ``TestB::test_c``.

    Without a configuration of pytest's, what begins with "test" counts, and a class that begins with "Test".
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        # ValueError: bytes that are no UTF-8.
        return frozenset()
    return frozenset(_functions(tree.body, ""))


def _functions(body: Iterable[ast.stmt], prefix: str) -> Iterable[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name.startswith("test"):
            yield prefix + statement.name
        elif isinstance(statement, ast.ClassDef) and statement.name.startswith("Test"):
            yield from _functions(statement.body, f"{prefix}{statement.name}::")
        elif isinstance(statement, ast.If):
            yield from _functions([*statement.body, *statement.orelse], prefix)


class StoredTests:
    """The tests of a commit.

    Args:
        commit: its id.
        root: top folder of the working tree.
        rootdir: pytest's root folder, which node ids start from.
    """

    def __init__(self, commit: str, root: Path, rootdir: Path) -> None:
        self._commit, self._root = commit, root
        self._inner = rootdir.resolve().relative_to(root.resolve()).as_posix()
        self._of = cache(self._read)

    def has(self, case: str) -> bool:
        """Whether the commit has the test function of a case."""
        module, _, name = case.partition("::")
        return name.partition("[")[0] in (self._of(module) or ())

    def removed(self, modules: Iterable[str], rootdir: Path) -> list[str]:
        """Give the node ids of test functions of the commit that modules of now no longer have.

        Args:
            modules: paths from ``rootdir`` of modules that were collected whole, or are gone.
            rootdir: pytest's root folder.
        """
        found = []
        for module in sorted(modules):
            path = rootdir / module
            now = functions(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else frozenset()
            found += [f"{module}::{name}" for name in sorted((self._of(module) or frozenset()) - now)]
        return found

    def gone(self, patterns: Iterable[str], rootdir: Path) -> list[str]:
        """Give the test modules of the commit that are no longer there, as paths from ``rootdir``.

        Args:
            patterns: names of test modules (pytest's ``python_files``).
            rootdir: pytest's root folder.
        """
        listed = git.paths(["ls-tree", "-r", "-z", "--name-only", self._commit, "--", self._inner], self._root)
        modules = [PurePosixPath(path).relative_to(self._inner).as_posix() for path in listed]
        named = [module for module in modules if any(fnmatch(PurePosixPath(module).name, each) for each in patterns)]
        return [module for module in named if not (rootdir / module).exists()]

    def _read(self, module: str) -> frozenset[str] | None:
        path = module if self._inner == "." else f"{self._inner}/{module}"
        source = git.show(self._commit, path, self._root)
        return None if source is None else functions(source)
