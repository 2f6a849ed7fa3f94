"""Does fitting find parameters within their bounds that give the measured discharge?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.hbv.inputs import RANGES
from perf_workloads.hbv import eager
from perf_workloads.hbv.example import main
from perf_workloads.hbv.fit import WARM_UP_DAYS, Catchments, Training, fit, nash_sutcliffe, synthetic_catchments

BOUNDS = list(RANGES.values())


def test_efficiency() -> None:
    observed = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 4.0]])
    assert nash_sutcliffe(observed, observed).tolist() == [1, 1]
    # As good as the mean; and off by one everywhere: 1 - 3 / 8.
    simulated = torch.tensor([[3.0, 1.0], [3.0, 3.0], [3.0, 5.0]])
    assert nash_sutcliffe(simulated, observed).tolist() == [0, 0.625]


def test_synthetic_catchments() -> None:
    catchments, parameters = synthetic_catchments(400, 3, BOUNDS, seed=1)
    precipitation, temperature, pet = catchments.forcings
    low, high = torch.tensor(BOUNDS)[:, :, None].unbind(1)
    assert ((parameters > low) & (parameters < high)).all()
    # Cold at the start, warm half a year later; rain on some four days of ten, 9 mm on each.
    assert temperature[:20].max() < 3
    assert temperature[170:190].min() > 8
    assert pet.min() >= 0
    assert 0.3 < (precipitation > 0).double().mean() < 0.5
    assert 6 < precipitation[precipitation > 0].mean() < 12
    # Enough discharge to learn from, in each of them.
    assert (catchments.observed.amax(dim=0) > 1).all()
    again, _ = synthetic_catchments(400, 3, BOUNDS, seed=1)
    assert torch.equal(again.observed, catchments.observed)
    assert not torch.equal(synthetic_catchments(400, 3, BOUNDS, seed=2)[0].observed, catchments.observed)


def test_true_parameters_are_efficient() -> None:
    catchments, parameters = synthetic_catchments(60, 3, BOUNDS)
    efficiency = Training(eager(), catchments, BOUNDS).efficiency(parameters)
    torch.testing.assert_close(efficiency, torch.ones(3), rtol=0, atol=1e-6)


def test_fit_improves() -> None:
    catchments, _ = synthetic_catchments(60, 2, BOUNDS)
    seen: list[tuple[int, float]] = []
    found = fit(eager(), catchments, BOUNDS, steps=10, rate=0.1, report=lambda *told: seen.append(told))
    assert seen == list(enumerate(found.losses))
    assert len(found.losses) == 10
    assert found.losses[-1] < 0.7 * found.losses[0]
    assert 1 - found.efficiency.mean().item() < found.losses[-1]
    assert not found.parameters.requires_grad


def test_parameters_keep_their_bounds() -> None:
    catchments, _ = synthetic_catchments(40, 2, BOUNDS)
    # Steps so large that a sigmoid reaches its ends.
    found = fit(eager(), catchments, BOUNDS, steps=4, rate=100.0)
    low, high = torch.tensor(BOUNDS)[:, :, None].unbind(1)
    assert ((found.parameters >= low) & (found.parameters <= high)).all()
    assert ((found.parameters == low) | (found.parameters == high)).any()


def test_parameters_start_in_the_middle() -> None:
    catchments, _ = synthetic_catchments(40, 2, BOUNDS)
    start = Training(eager(), catchments, BOUNDS).parameters()
    assert start[:, 1].tolist() == pytest.approx([(low + high) / 2 for low, high in BOUNDS])


def test_days_of_the_start_do_not_count() -> None:
    catchments, parameters = synthetic_catchments(WARM_UP_DAYS + 10, 2, BOUNDS)
    observed = catchments.observed.clone()
    observed[:WARM_UP_DAYS] += 100
    other = Catchments(catchments.forcings, catchments.initial, observed)
    first, second = (Training(eager(), each, BOUNDS).efficiency(parameters) for each in (catchments, other))
    assert torch.equal(first, second)


def test_the_example_prints_how_it_goes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    main(["--days", "40", "--catchments", "2", "--steps", "11"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["step   0", "step  10", "Nash-Sutcliffe efficiency"]
    assert [line.split()[0] for line in lines[4:]] == list(RANGES)
