"""What does ``--perf-ab`` go with? It brings its own baseline, and neither records nor shares the machine."""

from __future__ import annotations

import pytest

from perfgate.errors import SettingError


def read(config: pytest.Config) -> str:
    """Give the ref to compare with; "" without one.

    What an ini file asks for is left aside; what the command line asks for beside it must make sense.

    Raises:
        SettingError: it names nothing, or does not go with another flag.
    """
    ref = config.getoption("perf_ab")
    if ref is None:
        return ""
    if not ref.strip():
        raise SettingError(
            "--perf-ab=: no commit is named",
            "A run that compares with nothing would pass. In a workflow the variable that names it may be empty.",
            "--perf-ab=origin/main",
        )
    flag = f"--perf-ab={ref}"
    if config.getoption("benchmark_compare") not in ([], None, False):
        raise SettingError(
            f"{flag} and --benchmark-compare: a run compares with one of the two",
            "The baseline of --perf-ab is the commit itself, measured in the same run.",
            f"leave --benchmark-compare out, or run pytest twice: without {flag} it compares with stored baselines",
        )
    if config.getoption("perf_update") is not None:
        raise SettingError(
            f"{flag} and --perf-update: a comparison with a commit records nothing",
            "Its processes share the machine with those of another commit in turn.",
            f"leave one of the two out: pytest --perf-update={config.getoption('perf_update')}",
        )
    if config.getoption("perf_profile") is not None:
        raise SettingError(
            f"{flag} and --perf-profile: no case runs in a process that could be followed by a profile",
            "Profiles are taken of cases that a run has measured itself.",
            "profile what regressed in a run of its own: pytest --perf-profile",
        )
    if config.getoption("dist", "no") != "no" or hasattr(config, "workerinput"):
        raise SettingError(
            f"{flag} and -n: base and head take turns on one machine",
            "Workers beside them would slow either side down, and every verdict with it.",
            "-n 0",
        )
    return str(ref)
