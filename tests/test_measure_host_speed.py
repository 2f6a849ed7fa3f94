"""Is the speed of the CPU that launches work kept beside wall times of a GPU, and nowhere else?"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.calibrate import again
from perfgate.finish import _at_speed
from perfgate.measure import case, reference_speed
from perfgate.measure.host_speed import HOST, LOOKS, ROUNDS, HostSpeed
from perfgate.model import Metric, Noise
from perfgate.plan import Plan
from perfgate.verdict import speeds


def test_both_sides_mean_the_same_speed() -> None:
    assert HOST == speeds.HOST


def test_the_host_is_looked_at_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.5] * LOOKS + [1.0] * LOOKS)
    monkeypatch.setattr(reference_speed.ReferenceSpeeds.measure, "__defaults__", (lambda work: next(seconds), 1))
    host = HostSpeed()
    with host.around():
        assert host.speeds() == {"host": ROUNDS / 0.5}
    assert host.speeds() == {"host": 1.5 * ROUNDS}
    assert not list(seconds)


def test_a_look_that_is_interrupted_on_each_side_changes_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(([9.0] + [0.5] * (LOOKS - 1)) * 2)
    monkeypatch.setattr(reference_speed.ReferenceSpeeds.measure, "__defaults__", (lambda work: next(seconds), 1))
    host = HostSpeed()
    with host.around():
        pass
    assert host.speeds() == {"host": ROUNDS / 0.5}


def test_wall_time_of_a_device_has_the_speed_of_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    conditions = SimpleNamespace(watch=lambda: None, report=dict, speeds=lambda: {"sm_clock": 1.98e9})
    monkeypatch.setattr("perfgate.measure.device_conditions.open_conditions", lambda index: conditions)
    memory = SimpleNamespace(method="", peak_bytes=1, reserved_bytes=1)
    monkeypatch.setattr("perfgate.measure.device_memory.peak_memory", lambda call: memory)
    taken = case._on_device(lambda: None, (), {}, Plan(clock="wall", budget_s=0.01))
    time, peak = taken.metrics
    assert (time.name, list(time.speeds)) == ("wall_time", ["host"])
    assert 1e3 < time.speeds["host"] < 1e7
    assert peak.speeds == {}


def test_calibrating_with_extra_work_has_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it slow-downs would be played by seconds alone, which excuse nothing."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(again.inject, "on_both", lambda call, seconds: call)
    found = again._wall_time(lambda: None, 0.1, Metric("wall_time", "s", 1e-3), Plan(clock="wall", budget_s=0.01))
    assert list(found.speeds) == ["host"]
    assert 1e3 < found.speeds["host"] < 1e7


@pytest.mark.parametrize(("kind", "steady"), [("cuda", {}), ("cpu", {"host": 4e4})])
def test_durations_and_rates_that_scatter_as_launches_do_have_it_too(kind: str, steady: dict[str, float]) -> None:
    launches = Noise(0.05)
    fixture: Any = SimpleNamespace(
        device=SimpleNamespace(kind=kind),
        metrics=[Metric("wall_time", "s", 1.0, speeds={"host": 4e4})],
        recorded=[
            Metric("first", "s", 1.0, noise=launches),
            Metric("rate", "tokens/s", 1.0, noise=launches),
            Metric("captured", "s", 1.0, noise=Noise(0.01)),
            Metric("launches", "1", 1.0, noise=launches),
        ],
    )
    assert [metric.speeds for metric in _at_speed(fixture)] == [{"host": 4e4}, {"host": 4e4}, steady, {}]


def test_rounds_on_a_gpu_are_judged_with_the_speed_of_its_host(project) -> None:  # type: ignore[no-untyped-def]
    project.gpus()
    project.cases("a", body="benchmark.pedantic(sum, ([1, 2],), rounds=5, iterations=100)", head="@pytest.mark.sm80")
    project.run("--perf-update=new").assert_outcomes(passed=1)
    (stored,) = json.loads(project.baseline_file("nvidia-h200").read_text())["cases"].values()
    looked_at = stored["metrics"]["wall_time"]["speeds"]
    assert {name: len(each) for name, each in looked_at.items()} == {"host": 5}
