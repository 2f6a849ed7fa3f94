"""Which files measure, and are therefore this side's in the base's checkout too? Tests, their settings and perfgate.

Both sides run the same cases with the same measuring code; kernels and workloads are each side's own. What measures:

- the test modules of the run, every ``conftest.py``, and pytest's settings (``pyproject.toml``, ``pytest.ini``, ...);
- all of a folder that is named for tests (``tests``, ``perf_tests``, ``benchmarks``, ...) and holds one of the modules;
- perfgate itself, where the repository holds it;
- what the ini option ``perf_ab_measuring`` names: data that git ignores, and that both sides need, among it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import perfgate
from perfgate.ab import git
from perfgate.errors import SettingError

_SETTINGS = ("pyproject.toml", "pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg")
_FOR_TESTS = re.compile(r"(.*[_-])?(tests?|testing|bench|benches|benchmarks?|perf)|tests[_-].*")
#: A folder with one of these is a project of its own.
_PROJECT = ("pyproject.toml", "setup.py", "setup.cfg")


def apply(root: Path, tree: Path, modules: Iterable[Path], more: Iterable[Path], settings: Path | None) -> list[Path]:
    """Put this side's measuring files into the base's checkout.

    Args:
        root: top folder of the working tree.
        tree: the checkout.
        modules: test modules of the run.
        more: further files and folders that measure, by the setting ``perf_ab_measuring``.
        settings: pytest's ini file.

    Returns:
        What was put there, as paths from the top folder.

    Raises:
        SettingError: a path does not exist, or lies outside the working tree.
    """
    known = _files(root)
    folders, single = set(), set()
    for module in modules:
        inner = _inside(module, root)
        folder = tests_folder(inner, root) if inner is not None else None
        if folder is not None:
            folders.add(folder)
        elif inner is not None:
            single.add(inner)
    package = _inside(Path(perfgate.__file__).parent, root)
    if package is not None:
        folders.add(package)
    for path in more:
        inner = _inside(path, root)
        if inner is None or not path.exists():
            raise SettingError(
                f"ini option perf_ab_measuring: {path} is not in {root}",
                "What measures is copied from the working tree into the checkout of the base.",
                "name files and folders that exist, from the folder of the ini file",
            )
        (folders if path.is_dir() else single).add(inner)
    if settings is not None and (inner := _inside(settings, root)) is not None:
        single.add(inner)
    single |= {path for path in known if path.name == "conftest.py" or path.name in _SETTINGS}
    for folder in sorted(folders):
        _replace_folder(root, tree, folder, [path for path in known if path.is_relative_to(folder)])
    for path in sorted(single):
        _place(root / path, tree / path)
    return sorted(folders | single)


def tests_folder(module: Path, root: Path) -> Path | None:
    """Give the outermost folder around a test module that is named for tests; None when there is none.

    Args:
        module: path from the top folder.
        root: the top folder.
    """
    around = [
        folder
        for folder in module.parents
        if _FOR_TESTS.fullmatch(folder.name) and not any((root / folder / name).exists() for name in _PROJECT)
    ]
    return around[-1] if around else None


def _files(root: Path) -> list[Path]:
    """Give what git knows of the working tree and does not ignore: files, links, and the folders of submodules."""
    listed = git.paths(["ls-files", "--cached", "--others", "--exclude-standard", "-z"], root)
    return [path for path in map(Path, dict.fromkeys(listed)) if os.path.lexists(root / path)]


def _inside(path: Path, root: Path) -> Path | None:
    """Give a path from the top folder; None for one that is elsewhere."""
    # A link inside the working tree leads to the same place in the checkout, so the files behind it count.
    for candidate in (path.resolve(), path):
        if candidate.is_relative_to(root):
            return candidate.relative_to(root)
    return None


def _replace_folder(root: Path, tree: Path, folder: Path, files: list[Path]) -> None:
    """Let a folder of the checkout hold what it holds here; what git ignores, if all of it, is linked to."""
    if (tree / folder).is_symlink() or (tree / folder).is_file():
        (tree / folder).unlink()
    shutil.rmtree(tree / folder, ignore_errors=True)
    if not files:
        (tree / folder).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(root / folder, tree / folder)
    for path in files:
        _place(root / path, tree / path)


def _place(source: Path, target: Path) -> None:
    """Put a file, a link or a submodule's folder where the base has it, or has something else."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    for folder in _blocking(target):
        folder.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if source.is_dir() and not source.is_symlink():
        os.symlink(source, target)
        return
    # A link stays what it is: what it leads to may be one side's own.
    shutil.copy2(source, target, follow_symlinks=False)


def _blocking(target: Path) -> Iterator[Path]:
    """Give what the base has as a file where this side has a folder."""
    for folder in target.parents:
        if folder.is_file() or folder.is_symlink():
            yield folder
