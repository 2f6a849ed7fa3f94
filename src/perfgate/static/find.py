"""Which kernels declare launches, and under which import path? Looks at files; imports nothing of them."""

from __future__ import annotations

import configparser
import os
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from perfgate.errors import SettingError

#: The module of a kernel's folder that declares its launches.
MODULE = "specialisations"
#: The name in it.
LAUNCHES = "LAUNCHES"
_DEEPEST = 4


def source_roots(folder: Path) -> list[Path]:
    """Give the folders that pytest would put on the path (its ``pythonpath`` setting), else the folder itself."""
    roots = [folder / entry for entry in _pythonpath(folder)]
    return [root.resolve() for root in roots if root.is_dir()] or [folder.resolve()]


def _pythonpath(folder: Path) -> list[str]:
    value: Any = None
    pyproject = folder / "pyproject.toml"
    if pyproject.is_file():
        pytest = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("tool", {}).get("pytest", {})
        value = pytest.get("pythonpath", pytest.get("ini_options", {}).get("pythonpath"))
    for name, section in (("pytest.ini", "pytest"), ("tox.ini", "pytest"), ("setup.cfg", "tool:pytest")):
        if value is None and (folder / name).is_file():
            parser = configparser.ConfigParser(interpolation=None)
            parser.read(folder / name, encoding="utf-8")
            value = parser.get(section, "pythonpath", fallback=None)
    return shlex.split(value) if isinstance(value, str) else list(value or ())


def kernels(roots: Iterable[Path], module: str = MODULE) -> dict[str, str]:
    """Give the import path of the launches of each kernel, or of another of its modules, by the name of its folder.

    Of several folders of one name the least deep of the first root counts.
    """
    found: dict[str, str] = {}
    for root in roots:
        for parts in sorted(_packages(root, module), key=lambda parts: (len(parts), parts)):
            found.setdefault(parts[-1], ".".join((*parts, module)))
    return found


def _packages(root: Path, module: str) -> Iterator[tuple[str, ...]]:
    """Give the folders with a module, as import paths from a root."""
    # Passes over what goes away meanwhile: a compiler's cache may lie below a root.
    for folder, below, files in os.walk(root, followlinks=True):
        parts = Path(folder).relative_to(root).parts
        below[:] = [name for name in below if name.isidentifier() and len(parts) < _DEEPEST]
        if parts and f"{module}.py" in files:
            yield parts


def place_of(kernel: str, known: Mapping[str, str]) -> str:
    """Give the place of a kernel's launches from the name or import path of its folder, or their import path.

    Raises:
        SettingError: no kernel has this name.
    """
    if kernel in known:
        return known[kernel]
    if (inside := f"{kernel}.{MODULE}") in known.values():
        return inside
    if "." in kernel or ":" in kernel:
        return kernel
    names = ", ".join(sorted(known))
    raise SettingError(
        f"there is no kernel {kernel!r}",
        f"Kernels are folders with a {MODULE}.py that holds LAUNCHES, below pytest's pythonpath; "
        "--launch NAME is for one of its launches.",
        f"kernels are {names}" if names else "give an import path: perfgate static my_kernels.specialisations",
    )


def extend_path(roots: list[Path]) -> None:
    """Let the compiling processes import what lies in these folders."""
    for root in reversed(roots):
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
