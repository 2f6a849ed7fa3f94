"""HBV rainfall-runoff model as users write it in torch, the drivers that run it in parts, and a fit to measured data.

Importing this package does not import torch; calling it does. :mod:`perf_workloads.hbv.fit` imports it.
"""

from __future__ import annotations

from perf_workloads.hbv.drivers import (
    Step,
    a_day_at_a_time,
    basins_first,
    expected_s,
    few_days,
    graphed,
    routed,
    step,
    warm_up,
)
from perf_workloads.hbv.models import MODELS, Model, compiled, eager, fused, torchscript

__all__ = [
    "MODELS",
    "Model",
    "Step",
    "a_day_at_a_time",
    "basins_first",
    "compiled",
    "eager",
    "expected_s",
    "few_days",
    "fused",
    "graphed",
    "routed",
    "step",
    "torchscript",
    "warm_up",
]
