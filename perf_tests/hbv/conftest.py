"""What do the cases of HBV share? The published inputs, with what must come of them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def published(torch: ModuleType) -> Any:
    """Give the published grid."""
    return of_sizes()


@pytest.fixture(scope="session")
def corner(torch: ModuleType) -> Any:
    """Give the corner of the grid that a CPU gets through in seconds."""
    return of_sizes((100, 365), (32,))


@pytest.fixture(scope="session")
def many(torch: ModuleType) -> Any:
    """Give the longest series of enough basins to fill a large GPU."""
    return of_sizes((1461,), (65536,))


def of_sizes(*sizes: tuple[int, ...]) -> Any:
    """Give published inputs of some sizes, or skip."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.hbv.published import Published

    return Published(*sizes)
