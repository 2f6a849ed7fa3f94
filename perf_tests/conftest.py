"""What the cases share: optional packages, imported when a case runs and not when it is collected."""

from __future__ import annotations

from types import ModuleType

import pytest


def require(name: str) -> ModuleType:
    """Import an optional package, or skip the case with the line that installs it."""
    return pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[suite]'")


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """Give torch, or skip."""
    return require("torch")


@pytest.fixture(scope="session")
def transformers(torch: ModuleType) -> ModuleType:
    """Give Hugging Face transformers, or skip."""
    return require("transformers")
