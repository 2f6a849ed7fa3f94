"""What do the cases share? Optional packages, long experiments, and where real weights are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SLOW = "slow: a long experiment; skipped unless --slow-budget=SECONDS gives it time."


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the cases."""
    group = parser.getgroup("perf_tests", "cases of this repository")
    group.addoption(
        "--slow-budget", type=float, metavar="SECONDS", help="run cases marked slow, each within about SECONDS"
    )
    group.addoption(
        "--model-path", type=Path, metavar="DIR", help="folder with real weights, for cases that can take them"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and refuse options that cannot be used."""
    config.addinivalue_line("markers", SLOW)
    budget_s = config.getoption("--slow-budget")
    if budget_s is not None and not 0 < budget_s < float("inf"):
        raise pytest.UsageError(f"--slow-budget={budget_s:g}: not a positive number of seconds")
    folder = config.getoption("--model-path")
    if folder is not None and not folder.is_dir():
        raise pytest.UsageError(f"--model-path={folder}: not a folder; give the one that holds config.json")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip long experiments that nobody gave time to."""
    if config.getoption("--slow-budget") is not None:
        return
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason="slow: give it time with --slow-budget=SECONDS"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a case that comes to its end without a figure, as one does that has swallowed an exception.

    In the published run a method raised NotImplementedError, and "Done" was printed all the same.
    """
    yield
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    if benchmark is not None and not benchmark.has_figures:
        pytest.fail(
            "the case ended without a figure: nothing was measured, recorded or reported\n"
            "hint: let what cannot run raise, or skip with the reason",
            pytrace=False,
        )


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


@pytest.fixture(scope="module", autouse=True)
def resting_heap() -> Iterator[None]:
    """Set what is loaded aside once a module: each case on a CPU would look through all of it for garbage.

    Not beside a GPU: the memory of a model that was set aside would not come back when the model is let go.
    """
    from perfgate.measure import cpu_memory

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        yield
        return
    with cpu_memory.resting_heap():
        yield


@pytest.fixture
def slow_budget_s(request: pytest.FixtureRequest) -> float:
    """Give the seconds that a case marked slow may take."""
    return float(request.config.getoption("--slow-budget"))


@pytest.fixture(scope="session")
def model_path(request: pytest.FixtureRequest) -> Path | None:
    """Give the folder with real weights, or None: weights are random then."""
    folder: Path | None = request.config.getoption("--model-path")
    return folder
