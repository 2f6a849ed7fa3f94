"""How does a long test show that it goes on? By a line now and then, past pytest's capture.

A test in a process of its own hands its lines to the run that started it, which shows them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

#: Shorter tests show nothing, and no two lines come closer together.
INTERVAL_S = 5.0


class Progress:
    """Shows lines of progress of one test on the terminal; in workers of pytest-xdist and with ``-q`` it does not.

    Args:
        config: pytest's configuration.
        clock: gives seconds.
    """

    def __init__(self, config: pytest.Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._last_s = clock()

    def show(self, line: str, *, at_once: bool = False) -> None:
        """Show a line, unless the last one was shown or the test began less than ``INTERVAL_S`` ago.

        Args:
            line: what is shown.
            at_once: it tells of something that takes long and shows nothing itself: show it in any case.
        """
        now = self._clock()
        if not at_once and now - self._last_s < INTERVAL_S:
            return
        self._last_s = now
        plugins = self._config.pluginmanager
        child = plugins.getplugin("perfgate-child")
        if child is not None:
            child.progress(line)
        else:
            show(self._config, line)


def show(config: pytest.Config, line: str) -> None:
    """Show a line on the terminal, unless this is a worker of pytest-xdist or a run with ``-q``."""
    plugins = config.pluginmanager
    reporter = plugins.getplugin("terminalreporter")
    if reporter is None or config.option.verbose < 0:
        return
    capture = plugins.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
        reporter.ensure_newline()
        reporter.write_line(line)
        reporter.flush()
