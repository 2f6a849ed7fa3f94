"""Whom does the detection ask, and what does it get back?

Everything outside the process's own code comes through :class:`Sources`, so that tests can pretend any machine.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfgate.model import Device


@dataclass(frozen=True)
class Found:
    """What one provider found: devices (perhaps none) and the versions that only it can tell."""

    devices: tuple[Device, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def load(name: str) -> Any | None:
    """Import a module, or give None when it is absent or cannot start on this machine."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    # A binding raises whatever it likes when its shared library is missing (amdsmi: KeyError, OSError).
    except Exception:
        return None


def read(path: str) -> str | None:
    """Give the text of a file, or None when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def version(package: str) -> str | None:
    """Give the version of an installed package without importing it, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_text(package: str, path: str) -> str | None:
    """Give the text of a file of an installed package without importing it, or None."""
    try:
        return read(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        return None


def affinity() -> int:
    """Count the logical processors that the scheduler may run this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Sources:
    """The outside world. The defaults are this machine."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    #: Import a module by name, or None.
    load: Callable[[str], Any | None] = load
    #: Give a module only if it is imported already.
    loaded: Callable[[str], Any | None] = sys.modules.get
    version: Callable[[str], str | None] = version
    package_text: Callable[[str, str], str | None] = package_text
    read: Callable[[str], str | None] = read
    exists: Callable[[str], bool] = os.path.exists
    affinity: Callable[[], int] = affinity
    #: Processor architecture, e.g. "x86_64".
    machine: str = field(default_factory=platform.machine)
    #: Full version of Python, e.g. "3.11.7".
    python: str = field(default_factory=platform.python_version)


def ask(library: Any, function: str, *arguments: Any) -> Any | None:
    """Call a function of a driver's library; None means that it has no answer.

    Libraries differ between versions and cards in what they support, and each says so in exceptions of its own.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(library, function)(*arguments)
    except Exception:
        return None
