"""Is a case kept away from what torch's profiler leaves behind on a GPU?"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from perfgate.errors import SettingError
from perfgate.measure import profilers
from perfgate.measure.unprofiled import unprofiled

#: Each case leaves the process that it ran in.
MODULE = """
import os, pytest, torch

def ran(name):
    with open(name + ".processes", "a") as file:
        file.write(f"{os.getpid()} ")
    return name

@pytest.mark.sm80
def test_profiled(benchmark):
    benchmark(ran, "profiled")
    torch.profile()

@pytest.mark.sm80
@pytest.mark.perf(clock="wall")
def test_launches(benchmark):
    benchmark(ran, "launches")

@pytest.mark.sm80
@pytest.mark.perf(clock="device")
def test_device(benchmark):
    benchmark(ran, "device")

@pytest.mark.cpu
@pytest.mark.perf(clock="wall")
def test_cpu(benchmark):
    benchmark(ran, "cpu")
"""
NAMES = ("profiled", "launches", "device", "cpu")


@pytest.fixture
def cases(project):
    """Four cases on a pretended GPU, the first of which starts a profiler."""
    project.gpus()
    for name in NAMES:
        project.figures(name, [1e-3])
    project.pytester.makepyfile(test_speed=MODULE)
    return project


def processes(project, name: str) -> list[str]:
    return (project.path / f"{name}.processes").read_text().split()


def test_each_kind_of_profiler_is_counted_once():
    torch = pytest.importorskip("torch")
    profilers.watch()
    profilers.watch()
    for profiler in (
        torch.profiler.profile(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
        torch.autograd.profiler.profile(),
    ):
        before = profilers.starts()
        with profiler:
            torch.ones(3)
        assert profilers.starts() == before + 1


def test_a_profiler_that_is_refused_was_prepared():
    torch = pytest.importorskip("torch")
    profilers.watch()
    before = profilers.starts()
    with pytest.raises(SettingError), unprofiled(), torch.profiler.profile():
        pass
    assert profilers.starts() == before + 1
    assert not torch.autograd._profiler_enabled()


def test_a_torch_that_announces_nothing_is_not_watched(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(autograd=SimpleNamespace(profiler=SimpleNamespace())))
    before = profilers.starts()
    profilers.watch(load=True)
    assert profilers.starts() == before


def test_after_a_profiler_the_wall_clock_of_a_gpu_gets_a_process_of_its_own(cases):
    cases.run("--benchmark-compare").assert_outcomes(passed=4)

    (profiled,), (launches,), (device,), (cpu,) = (processes(cases, name) for name in NAMES)
    assert launches != profiled
    assert device == cpu == profiled


@pytest.mark.parametrize("launches", ["benchmark(ran, 'launches')", "benchmark.pedantic(ran, ('launches',))"])
def test_the_wall_clock_is_that_of_a_case_that_names_none(cases, launches):
    module = MODULE.replace('@pytest.mark.perf(clock="wall")\ndef test_launches', "def test_launches")
    cases.pytester.makepyfile(test_speed=module.replace('benchmark(ran, "launches")', launches))
    cases.run("--benchmark-compare", "-k", "profiled or launches").assert_outcomes(passed=2)

    assert processes(cases, "launches")[0] != processes(cases, "profiled")[0]


def test_a_case_that_imports_torch_itself_is_watched(cases):
    module = MODULE.replace("import os, pytest, torch", "import os, pytest")
    cases.pytester.makepyfile(test_speed=module.replace("    torch.profile()", "    import torch\n    torch.profile()"))
    cases.run("--benchmark-compare", "-k", "profiled or launches").assert_outcomes(passed=2)

    assert processes(cases, "launches") != processes(cases, "profiled")


def test_a_case_that_will_be_skipped_gets_no_process(cases):
    skipped = '@pytest.mark.skipif(True, reason="not here")\n@pytest.mark.sm80\n@pytest.mark.perf(clock="wall")'
    cases.pytester.makepyfile(test_speed=MODULE.replace('@pytest.mark.sm80\n@pytest.mark.perf(clock="wall")', skipped))
    result = cases.run("--benchmark-compare", "-k", "profiled or launches")

    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.no_fnmatch_line("*in a process of its own*")


def test_without_a_profiler_all_share_a_process(cases):
    cases.run("--benchmark-compare", "-k", "not profiled").assert_outcomes(passed=3)

    assert processes(cases, "launches") == processes(cases, "device")


def test_on_a_cpu_nothing_is_left_behind(cases):
    cases.pytester.makepyfile(test_speed=MODULE.replace("sm80", "cpu"))
    cases.run("--benchmark-compare", "-k", "profiled or launches").assert_outcomes(passed=2)

    assert processes(cases, "launches") == processes(cases, "profiled")


def test_a_case_that_profiles_is_recorded_away_from_others(cases):
    cases.run("--perf-update=new", "-k", "profiled or device or launches").assert_outcomes(passed=3)

    profiled, device, launches = (processes(cases, name) for name in ("profiled", "device", "launches"))
    # The first process of all shows who starts a profiler.
    assert profiled[0] == device[0]
    assert not set(profiled[1:]) & {*device[1:], *launches}
    assert len(profiled) == len(device) == len(launches) == 6


def test_a_profiler_that_ran_before_any_case_counts(cases):
    before = "def test_before():\n    torch.profile()\n\n"
    cases.pytester.makepyfile(
        test_speed=MODULE.replace("@pytest.mark.sm80\ndef test_profiled", before + "def test_profiled", 1)
    )
    cases.run("--benchmark-compare", "-k", "before or launches or cpu").assert_outcomes(passed=3)

    assert processes(cases, "launches") != processes(cases, "cpu")
