"""Which marker do these cases have of their own?"""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register ``slow``."""
    config.addinivalue_line("markers", "slow: takes more than 5 seconds; leave out with -m 'not slow'.")
