"""Does a forked pytest find what one finds that was started?"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

SEEN = """
import json, os, signal, sys, tempfile

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE")

def test_seen():
    seen = {
        "arguments": sys.argv[1:],
        "path": sys.path,
        "flags": repr(sys.flags),
        "folder": os.getcwd(),
        "variables": dict(os.environ),
        "main": sys.modules["__main__"].__name__,
        "standard streams": [os.fstat(number).st_size for number in (1, 2)] + [os.isatty(0), os.read(0, 1).decode()],
        "temporary": tempfile.gettempdir(),
        "signals": [repr(signal.getsignal(getattr(signal, name))) for name in NAMES],
    }
    with open("seen.json", "w") as file:
        json.dump(seen, file)
    assert "perfgate" not in sys.modules and "pytest_benchmark" not in sys.modules
"""
FLAGS = ("-p", "no:cacheprovider", "-s", "-k", "seen", "--basetemp=basetemp")


def seen(pytester: pytest.Pytester) -> Any:
    result = pytester.run(*pytester._getpytestargs(), *FLAGS)
    result.assert_outcomes(passed=1)
    return json.loads((pytester.path / "seen.json").read_text())


@pytest.fixture(params=[signal.SIG_IGN, signal.default_int_handler], ids=["ignored", "heeded"])
def sigint(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs in the background ignore Ctrl-C, and what they start does too."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_forked_pytest_sees_what_a_started_one_sees(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, sigint: None
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    pytester.makepyfile(SEEN)
    started = seen(pytester)
    request.getfixturevalue("forked")
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("temporary")))
    forked = seen(pytester)
    assert forked.pop("temporary") == forked["variables"].pop("TMPDIR") == str(pytester.path / "temporary")
    started["variables"].pop("TMPDIR", None)
    del started["temporary"]
    assert forked == started


def test_the_exit_code_is_that_of_the_copy(pytester: pytest.Pytester, forked: None) -> None:
    pytester.makepyfile("import os\ndef test_ends(): os._exit(7)\ndef test_dies(): os.abort()")
    flags = ("-p", "no:cacheprovider", "-p", "no:faulthandler")
    assert pytester.runpytest_subprocess(*flags, "-k", "ends").ret == 7
    assert pytester.runpytest_subprocess(*flags, "-k", "dies").ret == -6
    assert pytester.runpytest_subprocess(*flags, "-k", "none").ret == pytest.ExitCode.NO_TESTS_COLLECTED
