"""Can a time taken under the profiler be reported as a case's time?"""

from __future__ import annotations

import pytest

from perfgate.errors import SettingError
from perfgate.measure import case
from perfgate.measure.unprofiled import unprofiled
from perfgate.measure.wall import time_wall
from perfgate.model import Device
from perfgate.plan import Plan
from perfgate.profile import capture

torch = pytest.importorskip("torch")

CPU = Device("cpu", "Some CPU", "cpu-some-1t", memory_bytes=1 << 30, count=1)
WHY = (
    "\nThe profiler slows a call down by half and more: its time would not be the time of the call."
    "\nhint: measure without it; for a profile of each case: --perf-profile"
)
RUNS = "this call is to be measured while torch's profiler runs" + WHY
STARTS = "the measured call starts torch's profiler" + WHY


def measure(call):
    return case.measure(call, (), {}, plan=Plan(budget_s=0.01), device=CPU)


def profiled():
    with torch.profiler.profile():
        return torch.ones(3)


def profiled_the_old_way():
    with torch.autograd.profiler.profile():
        return torch.ones(3)


def swallowing():
    try:
        profiled()
    except SettingError:
        return None


@pytest.mark.parametrize("profiler", [torch.profiler.profile, torch.autograd.profiler.profile])
def test_measuring_under_a_profiler_is_refused(profiler):
    calls = []
    with profiler(), pytest.raises(SettingError) as refused:
        measure(lambda: calls.append(1))
    assert str(refused.value) == RUNS
    assert not calls


@pytest.mark.parametrize("clock", ["wall", "device"])
def test_a_clock_that_is_read_without_a_case_is_refused_too(clock):
    """Goals and exponents compare figures of these clocks."""
    from perfgate.measure.device import time_device

    calls = []
    with torch.profiler.profile(), pytest.raises(SettingError) as refused:
        {"wall": time_wall, "device": time_device}[clock](lambda: calls.append(1), budget_s=0.01)
    assert str(refused.value) == RUNS
    assert not calls


@pytest.mark.parametrize(
    "call", [profiled, profiled_the_old_way, swallowing, lambda: capture(torch.ones, warmed_up=True)]
)
def test_a_measured_call_that_profiles_itself_is_refused(call):
    with pytest.raises(SettingError) as refused:
        measure(call)
    assert str(refused.value) == STARTS


def test_afterwards_everything_can_be_profiled_again():
    with pytest.raises(SettingError):
        measure(profiled)
    assert not torch.autograd._profiler_enabled()
    assert capture(lambda: torch.ones(3)).calls("aten::ones") == 1
    assert measure(lambda: torch.ones(3)).metrics


def test_what_the_call_raises_itself_comes_out():
    with pytest.raises(ZeroDivisionError), unprofiled():
        _ = 1 / 0


@pytest.mark.parametrize("way", ["benchmark(torch.ones, 3)", "benchmark.pedantic(torch.ones, args=(3,))"])
def test_the_test_fails_with_the_reason(pytester, monkeypatch, way):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        f"""
        import torch

        def test_it(benchmark):
            with torch.profiler.profile():
                {way}
        """
    )
    result = pytester.runpytest_inprocess(
        "-p", "benchmark", "-p", "perfgate", "-p", "no:cacheprovider", "--benchmark-compare"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *{line}" for line in RUNS.splitlines()], consecutive=True)
