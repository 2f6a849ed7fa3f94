"""Fitting HBV to the discharge of synthetic catchments: what its gradients are for.

The time is that of one step of the optimiser. The figures of a whole fit are gated too: a gradient that is a little
wrong still gives the right discharge, and a worse fit.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from perf_workloads.hbv import MODELS


@pytest.mark.sm80
@pytest.mark.perf(time="10%", memory="1%", clock="wall", budget=0.5)
def test_fit(benchmark: Any, torch: ModuleType) -> None:
    """The fused kernels on a GPU: a year, 256 catchments."""
    losses = fit(benchmark, "fused", 365, 256, steps=80, device="cuda")
    assert losses[-1] < 0.05 < losses[0]


@pytest.mark.cpu
@pytest.mark.perf(time="20%", clock="wall", budget=0.3)
def test_cpu_fit(benchmark: Any, torch: ModuleType) -> None:
    """The eager loop on a CPU: four months, four catchments."""
    losses = fit(benchmark, "eager", 120, 4, steps=40, device="cpu")
    assert losses[-1] < 0.04 < losses[0]


def fit(benchmark: Any, implementation: str, days: int, basins: int, *, steps: int, device: str) -> list[float]:
    """Time a step, fit from the start, record how good it gets, and give the losses of all steps."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.hbv.inputs import RANGES
    from perf_workloads.hbv import fit as fitting

    bounds = list(RANGES.values())
    catchments = fitting.synthetic_catchments(days, basins, bounds)[0].to(device)
    model = MODELS[implementation]()
    benchmark(fitting.Training(model, catchments, bounds).step)

    def report(step: int, loss: float) -> None:
        benchmark.progress(f"step {step} of {steps}, loss {loss:.3g}")

    found = fitting.fit(model, catchments, bounds, steps=steps, report=report)
    efficiency = float(found.efficiency.median())
    # Roundings differ between devices and versions, and a fit makes the most of them.
    benchmark.record("loss", found.losses[-1], limit="20%")
    benchmark.record("efficiency", efficiency, better="higher", limit="1%")
    low, high = found.parameters.new_tensor(bounds)[:, :, None].unbind(1)
    assert ((found.parameters >= low) & (found.parameters <= high)).all()
    return found.losses
