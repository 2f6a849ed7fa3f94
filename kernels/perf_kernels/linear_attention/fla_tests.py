"""How is fla imported for a test, and hidden from one?"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
import warnings
from typing import Any

import pytest


def import_fla(module: str) -> Any:
    """Import a module of fla, or skip the test."""
    pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")
    with warnings.catch_warnings():
        # Without a GPU fla warns that it found none.
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def hide_fla(monkeypatch: pytest.MonkeyPatch, missing: str = "fla") -> None:
    """Make importing fla fail as if it, or ``missing`` that it needs, were not installed."""

    class Hidden(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: Any) -> None:
            if name.split(".")[0] == "fla":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    for name in [name for name in sys.modules if name.split(".")[0] == "fla"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
