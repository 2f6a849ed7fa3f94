"""HBV rainfall-runoff model as users write it in torch, and the drivers that run it in parts.

Importing this package does not import torch; calling it does.
"""

from __future__ import annotations

from perf_workloads.hbv.drivers import backward, forward, graphed, step
from perf_workloads.hbv.models import MODELS, Model, compiled, eager, torchscript

__all__ = ["MODELS", "Model", "backward", "compiled", "eager", "forward", "graphed", "step", "torchscript"]
