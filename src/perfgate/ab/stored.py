"""Which tests did a commit have? Reads its files as git stores them, and runs none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from perfgate.ab import git


def functions(source: str) -> frozenset[str]:
    """Give the names of the test functions in a module, as node ids have them: ``test_a``, ``TestB::test_c``.

    Without a configuration of pytest's, what begins with "test" counts, and a class that begins with "Test".
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
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
            modules: paths of modules that were collected whole, from ``rootdir``.
            rootdir: pytest's root folder.
        """
        found = []
        for module in sorted(modules):
            now = functions((rootdir / module).read_text(encoding="utf-8", errors="replace"))
            found += [f"{module}::{name}" for name in sorted((self._of(module) or frozenset()) - now)]
        return found

    def _read(self, module: str) -> frozenset[str] | None:
        path = module if self._inner == "." else f"{self._inner}/{module}"
        source = git.show(self._commit, path, self._root)
        return None if source is None else functions(source)
