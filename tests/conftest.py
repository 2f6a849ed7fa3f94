"""What the plugin's own tests share: a project with pretended hardware and a scripted clock."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import pytest

from perfgate.baseline.store import BaselineStore
from perfgate.measure import cpu_memory
from perfgate.model import Baseline, Outcome, StoredMetric

CONFTEST = '''
import json, pathlib
from perfgate import hardware
from perfgate.measure import case
from perfgate.model import Device, Hardware, Limit, Metric, Noise

here = pathlib.Path(__file__).parent
script = json.loads((here / "script.json").read_text())
capabilities = [tuple(each.pop("capability", ())) or None for each in script["devices"]]
devices = tuple(Device(**each, capability=pair) for each, pair in zip(script["devices"], capabilities))
hardware.detect = lambda: Hardware(devices, script["environments"])

def scripted(fn, args, kwargs, *, plan, device):
    """Take the next scripted figure of a case: the call itself says which one it is."""
    result = fn(*args, **kwargs)
    taken = here / f"{result}.taken"
    number = int(taken.read_text()) if taken.exists() else 0
    taken.write_text(str(number + 1))
    figures = script["cases"][result]
    figure = figures[min(number, len(figures) - 1)]
    metrics = (
        Metric("wall_time", "s", figure["time"], limit=plan.time or Limit(0.10), noise=Noise(0.01),
               speeds=figure.get("speeds", {})),
        Metric("memory", "B", figure["memory"], limit=plan.memory or Limit(0.0, 512.0)),
    )
    return case.Taken(metrics, script["method"], {}, (figure["time"],) * 3, result)

case.measure = scripted
'''

CPU = {"kind": "cpu", "name": "Pretended CPU", "key": "cpu-pretended-2t", "memory_bytes": 8 << 30, "count": 2}
H200 = {
    "kind": "cuda",
    "name": "NVIDIA H200",
    "key": "nvidia-h200",
    "memory_bytes": 141 << 30,
    "capability": [9, 0],
    "count": 1,
}

#: What a run whose GPUs are pretended needs of torch. Importing torch takes seconds, and there are many processes.
TORCH = """
class cuda:
    is_initialized = staticmethod(lambda: False)
    synchronize = staticmethod(lambda: None)

class autograd:
    _profiler_enabled = staticmethod(lambda: False)

    class profiler:
        _run_on_profiler_start = staticmethod(lambda: None)

def profile():
    autograd.profiler._run_on_profiler_start()
"""

ROOT = Path(__file__).resolve().parents[1]

# An interpreter, or a library as it is loaded, reads these once.
READ_AT_START = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "OMP_", "OPENBLAS_", "MKL_")


class ForkedPytest:
    """A pytest in a process of its own, as ``subprocess.Popen`` would give it."""

    stdin = None

    def __init__(self, arguments: Sequence[str], stdout: TextIO, stderr: TextIO) -> None:
        environment = dict(os.environ)
        path = environment.pop("PYTHONPATH", "")
        read = {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
        self._template = _template(tuple(sorted(read.items())))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), path]))
        ignored = [each for each in signal.valid_signals() if signal.getsignal(each) is signal.SIG_IGN]
        order = [arguments, os.getcwd(), environment, [stdout.name, stderr.name], ignored]
        assert self._template.stdin is not None
        print(json.dumps(order), file=self._template.stdin, flush=True)

    def wait(self) -> int:
        """Wait for its end; give the exit code."""
        assert self._template.stdout is not None
        return int(self._template.stdout.readline())


@functools.cache
def _template(read: tuple[tuple[str, str], ...]) -> subprocess.Popen[str]:
    """Start the process that pytests are forked from, with the variables that are read once; it ends with this one."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(READ_AT_START)}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("pytest_template.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**others, **dict(read)},
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def forked(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pytester fork its processes: most of a short run would be the imports that each begins with."""
    started = pytester.popen

    def popen(command: Sequence[str], *, stdout: Any, stderr: Any, **more: Any) -> Any:
        if tuple(command[:2]) == (sys.executable, "-mpytest"):  # of runpytest_subprocess
            return ForkedPytest(command[2:], stdout, stderr)
        return started(command, stdout=stdout, stderr=stderr, **more)

    monkeypatch.setattr(pytester, "popen", popen)


class Project:
    """A folder with tests whose figures come from a script instead of a clock."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.script: dict[str, Any] = {
            "devices": [CPU],
            "environments": {"cpu": {"python": "3.11.7", "torch": "2.13.0"}},
            "method": {"version": "1", "clock": "wall"},
            "cases": {},
        }
        pytester.makeconftest(CONFTEST)
        # Fresh processes start often here: no plugin is loaded but the two that count. With the gate off
        # pytest-benchmark times for real, a second for each call unless it is told otherwise.
        pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p no:cacheprovider --benchmark-max-time=0.01\n")

    def gpus(self, count: int = 1) -> None:
        """Pretend GPUs, and a torch that knows of them."""
        self.script["devices"] = [{**H200, "count": count}, *self.script["devices"]]
        self.pytester.makepyfile(torch=TORCH)

    def cases(self, *names: str, body: str = "benchmark(lambda: {name!r})", head: str = "") -> None:
        """Write a module with one test for each name."""
        tests = "\n".join(f"{head}\ndef test_{name}(benchmark):\n    {body.format(name=name)}\n" for name in names)
        self.pytester.makepyfile(test_speed="import pytest\n" + tests)

    def figures(self, name: str, times: Sequence[float], memory: float = 1 << 20, **more: Any) -> None:
        """Script what successive processes measure for a case."""
        self.script["cases"][name] = [{"time": time, "memory": memory, **more} for time in times]

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest in a process of its own, from the first figure on."""
        (self.path / "script.json").write_text(json.dumps(self.script))
        for taken in self.path.glob("*.taken"):
            taken.unlink()
        # A module that is written again within the second, at the same length, would pass for what it was.
        shutil.rmtree(self.path / "__pycache__", ignore_errors=True)
        return self.pytester.runpytest_subprocess(*args)

    def store(self, *names: str, key: str = "cpu-pretended-2t", outcome: str = "passed", **changes: Any) -> None:
        """Store the scripted figures of cases as baselines, as five processes would have recorded them."""
        kind = next((device["kind"] for device in self.script["devices"] if device["key"] == key), "cpu")
        baselines = {}
        for name in names:
            figures = self.script["cases"][name]
            five = [figures[number % len(figures)] for number in range(5)]
            speeds = {speed: tuple(f["speeds"][speed] for f in five) for speed in five[0].get("speeds", {})}
            metrics = (
                StoredMetric("wall_time", "s", "lower", tuple(f["time"] for f in five), speeds=speeds),
                StoredMetric("memory", "B", "lower", tuple(f["memory"] for f in five)),
            )
            baseline = Baseline(
                f"test_{name}",
                Outcome(outcome),
                metrics if outcome == "passed" else (),
                self.script["method"],
                self.script["environments"].get(kind, {}),
                "0123456789ab",
                "2026-01-01T00:00:00+00:00",
            )
            baselines[f"test_{name}"] = replace(baseline, **changes)
        BaselineStore(self.path / "baselines").merge(key, "test_speed.py", baselines)

    def compare(self, *args: str) -> tuple[dict[str, Any], pytest.RunResult]:
        """Compare once; give the run as it was written, and what pytest made of it."""
        result = self.run("--benchmark-compare", "--perf-json=run.json", *args)
        return json.loads((self.path / "run.json").read_text()), result

    def json(self, *args: str) -> dict[str, Any]:
        """Compare, and give the run as it was written."""
        return self.compare(*args)[0]

    def verdicts(self, *args: str) -> dict[str, str]:
        """Compare, and give the verdict of each case by its name."""
        return {case["id"].partition("::test_")[2]: case["verdict"] for case in self.json(*args)["cases"]}

    def baseline_file(self, key: str = "cpu-pretended-2t", module: str = "test_speed") -> Path:
        """Give the path of a module's baselines."""
        return self.path / "baselines" / key / f"{module}.json"

    def baseline(self) -> dict[str, Any]:
        """Give the stored baselines as they are in the file."""
        return json.loads(self.baseline_file().read_text())

    def edit_baseline(self, change: Callable[[Mapping[str, Any]], None]) -> None:
        """Change a module's baselines by hand."""
        data = json.loads(self.baseline_file().read_text())
        change(data)
        self.baseline_file().write_text(json.dumps(data))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let what a test draws not depend on the tests before it."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pytest that a test starts take itself for an xdist worker of this run, or write as it does in CI."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)
    for name in ("CI", "BUILD_NUMBER"):  # with one of these, pytest's short summary repeats whole messages
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("GITHUB_")]:  # else into the summary of the real step
        monkeypatch.delenv(name)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, forked: None) -> Project:
    """A project with a scripted clock."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Project(pytester)


@pytest.fixture(scope="module")
def resting_heap() -> Iterator[None]:
    """Set what is loaded aside: what a module measures collects garbage often, and late in a run much is loaded."""
    with cpu_memory.resting_heap():
        yield


@pytest.fixture(scope="session")
def imported() -> Callable[[str], ModuleType]:
    """Give ``imported(path)``: the module in a file of this repository that is in no package, such as one of cases."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def collected() -> Callable[..., frozenset[str]]:
    """Give ``collected(*paths)``: the ids of all tests in files and folders of this repository."""

    @functools.cache
    def collect(*paths: str) -> frozenset[str]:
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *paths]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return frozenset(line for line in done.stdout.splitlines() if "::" in line)

    return collect


@pytest.fixture(scope="session")
def collected_of_systems(collected: Callable[..., frozenset[str]]) -> frozenset[str]:
    """Give the ids of all cases in ``perf_tests`` but the static ones.

    They are collected together, once: importing what they import takes the longest.
    """
    return collected(*sorted(f"perf_tests/{path.parent.name}" for path in (ROOT / "perf_tests").glob("*/README.md")))


@pytest.fixture(scope="session")
def cases_of(collected_of_systems: frozenset[str]) -> Callable[..., set[str]]:
    """Give ``cases_of(*paths)``: the cases in files and folders of ``perf_tests``, without the names of files."""
    return lambda *paths: {case.split("::")[1] for case in collected_of_systems if case.startswith(paths)}
